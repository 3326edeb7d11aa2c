// A module: strict, and with names of its own.
const tip = document.getElementById("tip");
const hide = () => { tip.hidden = true; };
// Below the point of the window, but within it; above it where there is no room below.
const show = (text, x, top, bottom) => {
  tip.textContent = text;
  tip.hidden = false;
  tip.style.left = tip.style.top = "0";
  const { width, height } = tip.getBoundingClientRect();
  const room = document.documentElement.clientWidth;
  const below = bottom + 6 + height <= window.innerHeight;
  tip.style.left = `${scrollX + Math.max(8, Math.min(x, room - width - 8))}px`;
  tip.style.top = `${scrollY + (below ? bottom + 6 : top - 6 - height)}px`;
};

const figureOf = (event) => event.target.closest?.(".figure");
for (const kind of ["mouseover", "focusin"]) {
  document.addEventListener(kind, (event) => {
    const figure = figureOf(event);
    if (!figure) return;
    const box = figure.getClientRects()[0];
    figure.setAttribute("aria-describedby", "tip");
    show(`${document.body.dataset.log}, ${figure.dataset.from}`, box.left, box.top, box.bottom);
  });
}
for (const kind of ["mouseout", "focusout"]) {
  document.addEventListener(kind, (event) => figureOf(event) && hide());
}
document.addEventListener("keydown", (event) => event.key === "Escape" && hide());

const map = JSON.parse(document.getElementById("map-data").textContent);
const unpack = ({ bits, data }) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  return bits === 16 ? new Uint16Array(bytes.buffer) : new Uint32Array(bytes.buffer);
};
const when = unpack(map.ms), lines = unpack(map.lines);
const unsold = map.ms.bits === 16 ? 0xffff : 0xffffffff;
// Viridis without its ends, which are too near to a dark page and to a white one.
const SCALE = ["#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30"]
  .map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
const colour = (share) => {
  const at = share * (SCALE.length - 1), low = Math.min(Math.floor(at), SCALE.length - 2);
  const mixed = SCALE[low].map((from, i) => Math.round(from + (SCALE[low + 1][i] - from) * (at - low)));
  return `rgb(${mixed.join(" ")})`;
};
const UNSOLD = "#8884";

// A square is a whole number of the screen's own pixels, so that the gaps between are all alike.
const canvas = document.getElementById("map");
let columns = 1, cell = 1;
// Near what is wished, by tens, and best such that no row is left half empty.
const columnsFor = (wished) => {
  const near = Math.max(10, Math.round(wished / 10) * 10);
  for (let off = 0; off <= near / 3; off += 10) {
    for (const tried of [near - off, near + off]) if (tried > 0 && when.length % tried === 0) return tried;
  }
  return near;
};
const draw = () => {
  const width = canvas.parentElement.clientWidth - 40, ratio = window.devicePixelRatio || 1;
  const shape = width > 700 ? 4 : 1.5;
  columns = columnsFor(Math.sqrt(when.length * shape));
  cell = Math.max(1, Math.min(Math.floor(width * ratio / columns), Math.round(14 * ratio)));
  canvas.width = columns * cell;
  canvas.height = Math.ceil(when.length / columns) * cell;
  canvas.style.width = `${canvas.width / ratio}px`;
  Object.assign(canvas.dataset, { columns, cell });
  const pen = canvas.getContext("2d"), size = cell > 3 ? cell - 1 : cell;
  when.forEach((ms, seat) => {
    pen.fillStyle = ms === unsold ? UNSOLD : colour(map.end_ms ? ms / map.end_ms : 0);
    pen.fillRect((seat % columns) * cell, Math.floor(seat / columns) * cell, size, size);
  });
};
let drawnAt = "";
const redraw = () => {
  const now = `${window.innerWidth} ${window.devicePixelRatio}`;
  if (now !== drawnAt) { drawnAt = now; draw(); }
};
redraw();
window.addEventListener("resize", redraw);

let chosen = 0;
const tell = (seat) => {
  if (seat < 0 || seat >= when.length) return;
  chosen = seat;
  const box = canvas.getBoundingClientRect(), step = box.width / columns;
  const x = box.left + (seat % columns) * step, y = box.top + Math.floor(seat / columns) * step;
  const sale = `${(when[seat] / 1000).toFixed(2)} s, line ${lines[seat]}`;
  show(`${map.one} ${seat}, ${when[seat] === unsold ? `not ${map.sold}` : sale}`, x, y, y + step);
};
const pointed = (event) => {
  const step = canvas.getBoundingClientRect().width / columns;
  const column = Math.min(Math.floor(event.offsetX / step), columns - 1);
  tell(Math.floor(event.offsetY / step) * columns + column);
};
canvas.addEventListener("pointermove", pointed);
canvas.addEventListener("pointerdown", pointed);
canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && tell(chosen));
canvas.addEventListener("blur", hide);
canvas.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  if (step) { event.preventDefault(); tell(chosen + step); }
});

const scale = document.getElementById("scale");
const key = (text, background) => {
  const item = document.createElement("span"), patch = document.createElement("i");
  patch.style.background = background;
  item.append(patch, text);
  scale.append(item);
};
for (let i = 0; i <= 4; i++) key(`${((map.end_ms * i) / 4000).toFixed(2)} s`, colour(i / 4));
key(`not ${map.sold}`, UNSOLD);
