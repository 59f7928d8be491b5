import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';

/**
 * What the thread does. Its own text, so that it is the same from sources and from `dist/`: it takes `{id, svg}` and
 * answers `{id, png}` or `{id, error}`.
 */
const PAINTER = `
const { parentPort, workerData } = require('node:worker_threads');
const { readFileSync } = require('node:fs');
const { initWasm, Resvg } = require(workerData.module);
const ready = initWasm(readFileSync(workerData.wasm));
parentPort.on('message', async ({ id, svg }) => {
  try {
    await ready;
    const image = new Resvg(svg, { font: { loadSystemFonts: false } });
    const rendered = image.render();
    const png = rendered.asPng();
    rendered.free();
    image.free();
    parentPort.postMessage({ id, png });
  } catch (error) {
    parentPort.postMessage({ id, error: String(error) });
  }
});
`;

interface Painted {
  id: number;
  png?: Uint8Array;
  error?: string;
}

type Settle = (painted: Painted) => void;

/** The thread, and who waits for a picture of it. */
interface Painter {
  worker: Worker;
  waiting: Map<number, Settle>;
}

let painter: Painter | null = null;
let lastId = 0;

/** Begins with the first picture: most processes never need one. It keeps a process alive only while one waits for it. */
function startPainter(): Painter {
  const { resolve } = createRequire(import.meta.url);
  const worker = new Worker(PAINTER, {
    eval: true,
    execArgv: [],
    workerData: {
      module: resolve('@resvg/resvg-wasm'),
      wasm: resolve('@resvg/resvg-wasm/index_bg.wasm'),
    },
  });
  const made: Painter = { worker, waiting: new Map() };
  const gone = (why: string) => {
    if (painter === made) painter = null;
    for (const [id, settle] of made.waiting) settle({ id, error: why });
  };
  worker.on('message', (painted: Painted) => made.waiting.get(painted.id)?.(painted));
  worker.on('error', (error) => gone(String(error)));
  worker.on('exit', () => gone('the painter has ended'));
  return made;
}

/**
 * The picture as PNG, 640 × 320 as the SVG says. Drawn in a thread of its own: it takes up to a tenth of a second, in
 * which nothing else would be answered. Rejects when the SVG is none.
 */
export async function drawPng(svg: string): Promise<Uint8Array> {
  painter ??= startPainter();
  const { worker, waiting } = painter;
  const id = ++lastId;
  const { png, error } = await new Promise<Painted>((resolve) => {
    waiting.set(id, resolve);
    worker.ref();
    worker.postMessage({ id, svg });
  });
  waiting.delete(id);
  if (waiting.size === 0) worker.unref();
  if (png === undefined) throw new Error(`a chart could not be drawn: ${error}`);
  return png;
}
