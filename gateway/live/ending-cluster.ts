import { Cluster } from 'ioredis';

/**
 * ioredis' Cluster, but that `disconnect()` is the end of it. Its own asks the nodes for ever who has which slots when it is
 * disconnected while they are being asked: the answer starts the timer again that had been cleared, and the process never ends.
 */
export class EndingCluster extends Cluster {
  #isOver = false;

  override disconnect(reconnect = false): void {
    if (!reconnect) this.#isOver = true;
    super.disconnect(reconnect);
  }

  /** Nobody is told any more, and so nobody asks again, once it is over. */
  override refreshSlotsCache(callback: Parameters<Cluster['refreshSlotsCache']>[0] = () => {}): void {
    super.refreshSlotsCache((error, result) => {
      if (!this.#isOver) callback(error, result);
    });
  }
}
