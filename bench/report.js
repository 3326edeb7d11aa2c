"use strict";
(() => {
  const map = JSON.parse(document.getElementById("map-data").textContent);
  const cells = Uint8Array.from(atob(map.cells), (c) => c.charCodeAt(0));
  const canvas = document.getElementById("map");
  const rows = Math.ceil(cells.length / map.columns);
  canvas.width = map.columns * 6;
  canvas.height = rows * 6;
  // From the first sale to the last: blue over green and yellow to red, readable on light and on dark.
  const colour = (step) => `hsl(${(230 - 225 * (step / (map.steps - 1))).toFixed(0)} 72% 52%)`;
  const pen = canvas.getContext("2d");
  cells.forEach((cell, seat) => {
    pen.fillStyle = cell === map.unsold ? "#8884" : colour(cell);
    pen.fillRect((seat % map.columns) * 6, Math.floor(seat / map.columns) * 6, 5, 5);
  });
  const scale = document.getElementById("scale");
  for (let i = 0; i <= 4; i++) {
    const key = document.createElement("span");
    const patch = document.createElement("i");
    patch.style.background = colour((i / 4) * (map.steps - 1));
    key.append(patch, `${((map.seconds * i) / 4).toFixed(2)} s`);
    scale.append(key);
  }
})();
