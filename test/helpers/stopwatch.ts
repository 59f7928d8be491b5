/** How often a stopwatch looks at the clock, ms. */
const LOOK_MS = 5;
/** A pause between two looks counts for so much at most, ms: what is longer is a machine that did not run us. */
const PAUSE_MS_MAX = 25;

/**
 * Starts to measure how long something takes while this process runs; call the result once, at its end, for the ms. A machine that
 * is stopped or given to others for a second (an overcommitted one does that) adds next to nothing: a bound on what the
 * code takes then is not one on the machine. Does not keep the process alive.
 */
export function stopwatch(): () => number {
  let tookMs = 0;
  let lookedAtMs = performance.now();
  const look = () => {
    const nowMs = performance.now();
    tookMs += Math.min(nowMs - lookedAtMs, PAUSE_MS_MAX);
    lookedAtMs = nowMs;
  };
  const timer = setInterval(look, LOOK_MS).unref();
  return () => {
    look();
    clearInterval(timer);
    return tookMs;
  };
}
