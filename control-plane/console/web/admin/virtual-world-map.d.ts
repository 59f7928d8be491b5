/** Made when the console is built (`deploy/world-map.mjs`). Coordinates lie between 0 and `width` or `height`. */
declare module 'virtual:world-map' {
  const world: {
    width: number;
    height: number;
    /** `path`: as an SVG path's `d`. `code`: ISO 3166; null for land that belongs to no country of it. */
    shapes: readonly { code: string | null; path: string }[];
    /** Countries too small for a shape, or whose shape is hardly to be seen. */
    dots: readonly { code: string; x: number; y: number }[];
  };
  export default world;
}
