FROM python:3.13-slim
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY storage storage
COPY commands commands
COPY klani_resp klani_resp
COPY bench bench
# A new volume takes over who owns the directory that it is mounted on.
RUN pip install --no-cache-dir ".[bench]" && useradd --uid 7700 --no-create-home klani && install -d -o klani /data
# What a benchmark's page names: there is no git in the image to ask.
ARG KLANI_COMMIT=unknown
ENV KLANI_COMMIT=$KLANI_COMMIT
USER klani
VOLUME /data
EXPOSE 7700 7701 8081
CMD ["klani-resp", "--bind", "0.0.0.0", "--protected-mode", "no", "--port", "7700", "--dir", "/data", \
     "--metrics-bind", "0.0.0.0", "--metrics-port", "7701", "--board-bind", "0.0.0.0", "--board-port", "8081"]
