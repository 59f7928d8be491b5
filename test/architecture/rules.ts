/**
 * The house rules (DESIGN.md, ARCHITECTURE.md) as functions: sources in, sentences about what breaks a rule out.
 * Each has bad samples in architecture.test.ts that it must refuse.
 */
import { posix } from 'node:path';
import ts from 'typescript';
import { importsOf, parse, type SourceFile } from './source-file.js';

/** The gateway's stages in the order of the pipeline: a stage imports later ones only. */
export const STAGES = ['listeners', 'buyers', 'allocation', 'tunnels', 'relay', 'metering', 'usage'];

/** What stands under the stages: each may import these, and they import no stage. */
const GATEWAY_GROUND = ['gateway/live', 'gateway/runtime', 'gateway/errors.ts'];

const LINES_MAX = 450;

/** Whether a path lies in one of the places (folders or files). */
const within = (path: string, places: readonly string[]) =>
  places.some((place) => path === place || path.startsWith(`${place}/`));

/** What runs in the browser: it talks to the rest through the API alone, and nobody imports it. */
export const BROWSER_ROOM = 'control-plane/console/web';
/** Packages that may run there; beside them only what the client brings. */
/** The last is made when the pages are built (`deploy/world-map.mjs`). */
const BROWSER_PACKAGES = new Set(['preact', 'preact-iso', '@preact/signals', 'uplot', 'virtual:world-map']);

/** The places of the project a file may import from; null: all. */
function allowedPlaces(path: string): string[] | null {
  const [room = '', second = ''] = path.split('/');
  if (within(path, [BROWSER_ROOM])) return [BROWSER_ROOM, 'control-plane/client'];
  if (room === 'agent-protocol') return ['agent-protocol'];
  if (room === 'control-plane') return ['control-plane', 'gateway/live', 'gateway/runtime'];
  if (room !== 'gateway') return null;
  if (second === 'runtime') return ['gateway/runtime', 'agent-protocol/address.ts'];
  if (second === 'live' || path === 'gateway/errors.ts') return GATEWAY_GROUND;
  const stage = STAGES.indexOf(second);
  if (stage < 0) return ['gateway', 'agent-protocol']; // gateway.ts, main.ts, config.ts: the composition root
  return ['agent-protocol', ...GATEWAY_GROUND, ...STAGES.slice(stage).map((name) => `gateway/${name}`)];
}

/** Who may import whom, and which packages. */
export function forbiddenImports(files: readonly SourceFile[], packages: ReadonlySet<string>): string[] {
  return files.flatMap((file) =>
    importsOf(file).flatMap(({ target, kind }) => {
      const room = file.path.split('/')[0];
      const inBrowser = within(file.path, [BROWSER_ROOM]);
      if (kind === 'node') return inBrowser ? [`${file.path} imports a module of Node`] : [];
      if (kind === 'package') {
        const own = room === 'agent-protocol' ? new Set(['ws', 'msgpackr', 'prom-client']) : packages;
        const allowed = inBrowser ? BROWSER_PACKAGES : own;
        return allowed.has(target) ? [] : [`${file.path} imports the package ${target}`];
      }
      if (!inBrowser && within(target, [BROWSER_ROOM])) return [`${file.path} imports ${target}`];
      const places = allowedPlaces(file.path);
      const inside = places === null ? !within(target, ['test']) : within(target, places);
      return inside ? [] : [`${file.path} imports ${target}`];
    }),
  );
}

/** Circles of imports that exist when the program runs (type imports are erased); one sentence a circle. */
export function importCycles(files: readonly SourceFile[]): string[] {
  const edges = new Map(
    files.map((file) => [
      file.path.replace(/\.tsx$/, '.ts'), // as imports name it
      importsOf(file)
        .filter(({ kind, typeOnly }) => kind === 'file' && !typeOnly)
        .map(({ target }) => target),
    ]),
  );
  return cycles(edges);
}

/** Circles between the folders of a room, type imports included: a domain or stage can be lifted out whole. */
export function folderCycles(files: readonly SourceFile[], room: string): string[] {
  const folderOf = (path: string) => path.split('/').slice(0, 2).join('/');
  const edges = new Map<string, string[]>();
  for (const file of files.filter(({ path }) => path.startsWith(`${room}/`) && path.split('/').length > 2)) {
    const from = folderOf(file.path);
    const targets = importsOf(file)
      .filter(({ target, kind }) => kind === 'file' && target.startsWith(`${room}/`))
      .map(({ target }) => folderOf(target))
      .filter((target) => target !== from && !target.endsWith('.ts'));
    edges.set(from, [...(edges.get(from) ?? []), ...targets]);
  }
  return cycles(edges);
}

/** Each circle once, as `a → b → a`, found by a depth-first walk. */
function cycles(edges: ReadonlyMap<string, readonly string[]>): string[] {
  const found = new Set<string>();
  const done = new Set<string>();
  const walk = (node: string, path: readonly string[]): void => {
    const at = path.indexOf(node);
    if (at >= 0) {
      const circle = path.slice(at);
      const first = circle.indexOf([...circle].sort()[0] as string);
      const turned = [...circle.slice(first), ...circle.slice(0, first)];
      found.add([...turned, turned[0]].join(' → '));
      return;
    }
    if (done.has(node)) return;
    for (const next of edges.get(node) ?? []) walk(next, [...path, node]);
    done.add(node);
  };
  for (const node of edges.keys()) walk(node, []);
  return [...found];
}

/** Reads of the environment outside `config.ts` files; `deploy/` is the outside itself. */
export function environmentReads(files: readonly SourceFile[]): string[] {
  return files
    .filter(({ path }) => !within(path, ['deploy', 'test']) && posix.basename(path) !== 'config.ts')
    .filter((file) => contains(file, (node) => ts.isPropertyAccessExpression(node) && isProcessEnv(node)))
    .map(({ path }) => `${path} reads process.env`);
}

function isProcessEnv(node: ts.PropertyAccessExpression): boolean {
  return node.name.text === 'env' && ts.isIdentifier(node.expression) && node.expression.text === 'process';
}

/** Statements that do something when a module is imported; entry points (`main.ts`, `cli.ts`) excepted. */
export function importSideEffects(files: readonly SourceFile[]): string[] {
  return files
    .filter(({ path }) => !within(path, ['deploy', 'test']) && !/(^|\/)(main|cli)\.tsx?$/.test(path))
    .filter((file) => parse(file).statements.some((s) => ts.isExpressionStatement(s) || ts.isIfStatement(s)))
    .map(({ path }) => `${path} does something when it is imported`);
}

/** SQL that writes ledger tables outside the ledger. */
export function ledgerWrites(files: readonly SourceFile[]): string[] {
  const write =
    /\b(insert\s+into|update(\s+only)?|delete\s+from|truncate(\s+table)?|copy)\s+(public\.)?"?ledger_/i;
  return files
    .filter(({ path, text }) => !path.startsWith('control-plane/ledger/') && write.test(text))
    .map(({ path }) => `${path} writes a ledger table`);
}

/** String literals that begin with the prefix of Redis keys outside the one file that builds them. */
export function redisKeysElsewhere(files: readonly SourceFile[], prefix: string): string[] {
  const isKey = (node: ts.Node) =>
    (ts.isStringLiteralLike(node) || ts.isTemplateHead(node)) && node.text.startsWith(prefix);
  return files
    .filter((file) => file.path !== 'gateway/live/keys.ts' && contains(file, isKey))
    .map(({ path }) => `${path} builds a Redis key`);
}

function contains(file: SourceFile, wanted: (node: ts.Node) => boolean): boolean {
  const visit = (node: ts.Node): boolean => wanted(node) || (ts.forEachChild(node, visit) ?? false);
  return visit(parse(file));
}

/** Files named after nothing. */
export function emptyNames(files: readonly SourceFile[]): string[] {
  return files
    .filter(({ path }) => /(^|[/-])(utils?|manager|helpers?|misc|common)\.tsx?$/.test(path))
    .map(({ path }) => `${path} is named after nothing`);
}

/** Files too long to hold in the head, unless a reason is given. */
export function longFiles(files: readonly SourceFile[], reasons: Readonly<Record<string, string>>): string[] {
  return files
    .map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 }))
    .filter(({ path, lines }) => lines > LINES_MAX && !(path in reasons))
    .map(({ path, lines }) => `${path} has ${lines} lines (at most ${LINES_MAX})`);
}

/** Dependencies that the document does not name in backticks. */
export function unnamedDependencies(names: readonly string[], document: string): string[] {
  return names.filter((name) => !document.includes(`\`${name}\``)).map((name) => `${name} is not explained`);
}
