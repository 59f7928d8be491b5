/** One worker of a gateway: what `traffic-share gateway --workers` starts several of. */
import type { SocketHandle } from '../../agent-protocol/raw-socket.js';
import { readGatewayConfig } from '../config.js';
import { type Gateway, startGateway } from '../gateway.js';
import { allocateYoung } from '../runtime/garbage.js';
import { createLog } from '../runtime/logging.js';
import { STOP_GRACE_MS, stopOnSignal } from '../runtime/signals.js';
import { startTracing } from '../runtime/tracing.js';
import type { PortName, ToWorker } from './messages.js';
import { type LinkHandle, openLink, PassChannel } from './pass-channel.js';
import { configOfWorker, journalDirOf } from './seat.js';
import { type SendToParent, WorkerSiblings } from './siblings.js';

/** Runs until the parent says stop or is gone. */
function runWorker(): void {
  allocateYoung();
  const ports = new Map<PortName, SocketHandle>();
  let gateway: Gateway | null = null;
  let siblings: WorkerSiblings | null = null;
  let drain = (_drainMs: number) => {};

  const receive = (message: ToWorker, socket?: SocketHandle): void => {
    switch (message.kind) {
      case 'port':
        if (socket) ports.set(message.name, socket);
        return;
      case 'start':
        siblings = new WorkerSiblings(message.worker, message.workers, send);
        for (const { worker, fd } of message.links)
          siblings.link(worker, (events) => new PassChannel(fd, events));
        start(message, siblings).catch((error: Error) => {
          send({ kind: 'failed', message: error.message }, () => process.exit(1));
        });
        return;
      case 'serving':
        siblings?.onServing(message.workers);
        return;
      case 'freed':
        siblings?.onFreed(message.run);
        return;
      case 'over':
        siblings?.onOver(message.run);
        return;
      case 'devices':
        siblings?.onDevices(message.from, message);
        return;
      case 'link':
        if (socket) siblings?.link(message.worker, (events) => openLink(socket as LinkHandle, events));
        return;
      case 'report':
        gateway
          ?.report(message.withMetrics)
          .then((report) => send({ kind: 'report', id: message.id, report }), silent);
        return;
      case 'stop':
        drain(message.drainMs);
    }
  };

  async function start(seat: Extract<ToWorker, { kind: 'start' }>, siblings: WorkerSiblings): Promise<void> {
    const base = readGatewayConfig();
    const config = configOfWorker(base, seat.worker);
    const log = createLog('gateway', config.logLevel).child({ worker: seat.worker });
    const ending = stopOnSignal(config.drainMs + STOP_GRACE_MS, (error) =>
      log.error({ error: String(error) }, 'stopping_failed'),
    );
    const stopTracing = await startTracing(config, 'gateway', log);
    const started = await startGateway(config, log, {
      onDrain: ending.begin,
      seat: {
        workers: seat.workers,
        epoch: seat.epoch,
        siblings,
        journalDir: journalDirOf(base, seat.worker),
        ports,
        settles: seat.settle,
      },
    });
    gateway = started;
    let drainMs = config.drainMs;
    ending.by(async (why) => {
      send({ kind: 'leaving' });
      await started.stop(why === 'disconnect' ? 0 : drainMs);
      await stopTracing();
    });
    drain = (how) => {
      drainMs = how;
      ending.begin();
    };
    send({ kind: 'ready' });
    if (!seat.settle) return;
    await started.settled();
    await started.stop(0);
    send({ kind: 'settled' }, () => process.exit(0));
  }

  // Nothing else keeps it until it is told to start.
  process.channel?.ref();
  process.on('message', (message, socket) =>
    receive(message as ToWorker, socket as SocketHandle | undefined),
  );
  send({ kind: 'here' });
}

/** Nothing is left to be told when the parent is gone. */
const send: SendToParent = (message, done = () => {}) => {
  if (process.send && process.connected) process.send(message, undefined, {}, done);
  else done();
};

/** Whoever asked has a time limit. */
function silent(): void {}

runWorker();
