/** Time beyond the drain that stopping a gateway may take before the process gives up. */
export const STOP_GRACE_MS = 10_000;

/** `asked`: by the program itself. */
export type StopReason = 'SIGTERM' | 'SIGINT' | 'disconnect' | 'asked';

/** How a process ends. */
export interface Ending {
  /** Begins it for a reason of the program's own; when it has begun, nothing happens. */
  begin(): void;
  /**
   * From now on `stop` is run before the process ends. Until this is called nothing runs that has to be stopped in order:
   * what would end the process ends it at once, as kill -9 might.
   */
  by(stop: (why: StopReason) => Promise<unknown>): void;
}

/**
 * Ends the process on SIGTERM, SIGINT or when the parent that holds the IPC channel goes away, or has gone: with exit code
 * 0, or 1 when stopping failed. A second signal, or `graceMs` without an end, exits 1 at once. To be called before anything
 * is started, since starting may wait for others for as long as they are away.
 */
export function stopOnSignal(graceMs: number, onError: (error: unknown) => void): Ending {
  let stop: (why: StopReason) => Promise<unknown> = async () => {};
  let stopping = false;
  const begin = (why: StopReason) => {
    if (stopping) {
      if (why === 'SIGTERM' || why === 'SIGINT') process.exit(1);
      return;
    }
    stopping = true;
    setTimeout(() => process.exit(1), graceMs).unref();
    stop(why).then(
      () => process.exit(0),
      (error) => {
        onError(error);
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', () => begin('SIGTERM'));
  process.on('SIGINT', () => begin('SIGINT'));
  process.on('disconnect', () => begin('disconnect'));
  // To listen for its end keeps nobody: a program that could not start ends by itself.
  process.channel?.unref();
  // `send` stays when the channel has closed.
  if (process.send !== undefined && !process.connected) begin('disconnect');
  return {
    begin: () => begin('asked'),
    by(how) {
      stop = how;
    },
  };
}
