FROM python:3.13-slim
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY storage storage
COPY commands commands
COPY klani_resp klani_resp
COPY bench bench
RUN pip install --no-cache-dir ".[bench]" && mkdir /data
VOLUME /data
EXPOSE 7700 7701 8081
CMD ["klani-resp", "--bind", "0.0.0.0", "--protected-mode", "no", "--port", "7700", "--dir", "/data", "--metrics-bind", "0.0.0.0", "--metrics-port", "7701", "--board-bind", "0.0.0.0", "--board-port", "8081"]
