# The agent alone, as a user without rights. From the project's root:
#   docker build -f deploy/container/agent.Dockerfile -t traffic-share-agent .
# Sign in once and accept the terms (they are shown), then let it run; see agent.compose.yml
#   docker run --rm -it -v traffic-share:/state traffic-share-agent login --api-url https://api.example.org
#   docker run --rm -it -v traffic-share:/state traffic-share-agent consent accept
FROM node:22-slim AS build
WORKDIR /build
COPY package.json tsconfig.json ./
COPY agent-protocol agent-protocol
# Only what the agent is made of: the wire, ws, msgpackr, prom-client for metrics. Versions as in package.json
RUN node -e "const p = JSON.parse(require('fs').readFileSync('package.json')); \
      const pick = (from, names) => Object.fromEntries(names.map((n) => [n, from[n]])); \
      require('fs').writeFileSync('package.json', JSON.stringify({ type: 'module', version: p.version, \
        dependencies: pick(p.dependencies, ['ws', 'msgpackr', 'prom-client']), \
        devDependencies: pick(p.devDependencies, ['typescript', '@types/node', '@types/ws']) }))" \
 && npm install --no-audit --no-fund --ignore-scripts \
 && npx tsc -p tsconfig.json --outDir dist \
 && npm prune --omit=dev --no-audit --no-fund

FROM node:22-slim
ENV NODE_ENV=production TS_STATE_DIR=/state TS_PAGE_PORT=off
WORKDIR /app
COPY --from=build /build/package.json ./
COPY --from=build /build/node_modules node_modules
COPY --from=build /build/dist/agent-protocol agent-protocol
RUN install -d -o node -g node -m 0700 /state
USER node
VOLUME /state
STOPSIGNAL SIGTERM
ENTRYPOINT ["node", "/app/agent-protocol/agent/main.js"]
CMD ["run", "--wait-when-refused"]
