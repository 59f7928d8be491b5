// The countries of the world as SVG paths, made of Natural Earth's shapes (the package world-atlas) when the console is built.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

/** Width of the picture; heights follow. */
const WIDTH = 1_000;
/** Antarctica, where nobody shares: the picture ends above it. */
const LATITUDES = { north: 83.7, south: -56 };
const ANTARCTICA = 'AQ';
/** Rings that are smaller, in square units of the picture, are no more than a speck. */
const SPECK = 0.3;
/** Countries whose largest piece is smaller can hardly be seen or hit: they have a point beside their shape. */
const SMALL = 8;
/** Shapes without a number of their own. */
const BY_NAME = { Kosovo: 'XK' };

const require = createRequire(import.meta.url);
const read = (detail) =>
  JSON.parse(readFileSync(require.resolve(`world-atlas/countries-${detail}.json`), 'utf8'));

/** ISO 3166's two letters, of its three digits (which Unicode's locale data knows as the older name); null: not a country. */
function codeOf({ id, properties }) {
  if (id === undefined) return BY_NAME[properties.name] ?? null;
  const { region } = new Intl.Locale(`und-${id}`);
  return /^[A-Z]{2}$/.test(region ?? '') ? region : null;
}

/** Degrees to the plane, areas kept: the Equal Earth projection (Šavrič, Patterson, Jenny 2018), as wide as 2 × 2.7066. */
function project([longitude, latitude]) {
  const root = Math.sqrt(3) / 2;
  const t = Math.asin(root * Math.sin((latitude * Math.PI) / 180));
  const [t2, t6] = [t * t, t ** 6];
  const [a1, a2, a3, a4] = [1.340264, -0.081106, 0.000893, 0.003796];
  const x =
    (((longitude * Math.PI) / 180) * Math.cos(t)) / (root * (a1 + 3 * a2 * t2 + t6 * (7 * a3 + 9 * a4 * t2)));
  return [x, -t * (a1 + a2 * t2 + t6 * (a3 + a4 * t2))];
}

const HALF = project([180, 0])[0];
const TOP = project([0, LATITUDES.north])[1];
const SCALE = WIDTH / (2 * HALF);
const HEIGHT = Math.ceil((project([0, LATITUDES.south])[1] - TOP) * SCALE);

function place(degrees) {
  const [x, y] = project(degrees);
  return [(x + HALF) * SCALE, (y - TOP) * SCALE];
}

/** A ring that crosses the 180th meridian is drawn at both edges of the picture: in as many pieces as it has there. */
function piecesOf(ring) {
  const unrolled = [];
  for (const [longitude, latitude] of ring) {
    const before = unrolled.at(-1)?.[0] ?? longitude;
    unrolled.push([longitude + 360 * Math.round((before - longitude) / 360), latitude]);
  }
  return [0, -360, 360]
    .map((turn) => unrolled.map(([longitude, latitude]) => [longitude + turn, latitude]))
    .map((turned) => behind(behind(turned, 1), -1))
    .filter((piece) => piece.length > 2);
}

/** What of a ring lies on this side of the 180th meridian: `side` 1 of 180° west, -1 of 180° east (Sutherland, Hodgman 1974). */
function behind(ring, side) {
  const depth = ([longitude]) => side * longitude + 180;
  return ring.flatMap((point, n) => {
    const next = ring[(n + 1) % ring.length];
    const [here, there] = [depth(point), depth(next)];
    const crossing =
      here >= 0 === there >= 0 ? [] : [[-side * 180, latitudeAt(point, next, here / (here - there))]];
    return here >= 0 ? [point, ...crossing] : crossing;
  });
}

const latitudeAt = ([, from], [, to], part) => from + (to - from) * part;

/** Rings of a topology's geometry, outer and inner ones, in the plane (TopoJSON: quantised, delta-encoded arcs). */
function ringsOf(topology, geometry) {
  const { scale, translate } = topology.transform;
  const arc = (index) => {
    let [x, y] = [0, 0];
    const points = topology.arcs[index < 0 ? ~index : index].map(([dx, dy]) => {
      x += dx;
      y += dy;
      return [x * scale[0] + translate[0], y * scale[1] + translate[1]];
    });
    return index < 0 ? points.reverse() : points;
  };
  const polygons = geometry.type === 'Polygon' ? [geometry.arcs] : geometry.arcs;
  return polygons
    .flat()
    .map((arcs) => arcs.flatMap((index, n) => arc(index).slice(n === 0 ? 0 : 1)))
    .flatMap(piecesOf)
    .map((piece) => piece.map(place));
}

/** Of a ring, square units: never negative. */
function areaOf(ring) {
  let twice = 0;
  for (const [n, [x, y]] of ring.entries()) {
    const [nextX, nextY] = ring[(n + 1) % ring.length];
    twice += x * nextY - nextX * y;
  }
  return Math.abs(twice) / 2;
}

/** To a tenth of a unit, each point from the one before; what does not move is left out. */
function pathOf(rings) {
  return rings
    .map((ring) => {
      let [atX, atY] = [0, 0];
      let path = '';
      for (const [x, y] of ring.map((point) => point.map((value) => Math.round(value * 10)))) {
        const [dx, dy] = [x - atX, y - atY];
        if (path !== '' && dx === 0 && dy === 0) continue;
        path += path === '' ? `M${x / 10} ${y / 10}l` : `${dx / 10} ${dy / 10} `;
        [atX, atY] = [x, y];
      }
      return `${path.trimEnd().replaceAll(' -', '-')}z`;
    })
    .join('');
}

const byArea = (a, b) => areaOf(b) - areaOf(a);

/** The middle of the largest piece, to a tenth of a unit. */
function middleOf([largest]) {
  const middle = (values) => Math.round(5 * (Math.min(...values) + Math.max(...values))) / 10;
  const [x, y] = [0, 1].map((axis) => middle(largest.map((point) => point[axis])));
  return { x, y };
}

/** The countries of one level of detail, each with its rings, the largest first. */
function countriesOf(detail) {
  const topology = read(detail);
  return topology.objects.countries.geometries
    .map((geometry) => ({ code: codeOf(geometry), rings: ringsOf(topology, geometry).sort(byArea) }))
    .filter(({ code }) => code !== ANTARCTICA);
}

/**
 * `shapes`: each country's path, and land that belongs to none (`code` null). `dots`: the middle of countries that are too small
 * for a shape, of which there are more in Natural Earth's finer data.
 */
export function worldMap() {
  const coarse = countriesOf('110m');
  const shapes = coarse
    .map(({ code, rings }) => ({ code, path: pathOf(rings.filter((ring) => areaOf(ring) > SPECK)) }))
    .filter(({ path }) => path !== '');
  const drawn = new Set(coarse.filter(({ rings }) => areaOf(rings[0]) >= SMALL).map(({ code }) => code));
  const dots = countriesOf('50m')
    .filter(({ code }) => code !== null && !drawn.has(code))
    .map(({ code, rings }) => ({ code, ...middleOf(rings) }));
  return { width: WIDTH, height: HEIGHT, shapes, dots };
}

/** The same as a module of the console, `virtual:world-map`, for Vite. */
export function worldMapPlugin() {
  const id = 'virtual:world-map';
  return {
    name: 'world-map',
    resolveId: (name) => (name === id ? `\0${id}` : null),
    load: (name) => (name === `\0${id}` ? `export default ${JSON.stringify(worldMap())}` : null),
  };
}
