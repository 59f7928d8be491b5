// Loaded into a fuzzed gateway before it: tells, when asked over IPC, what each of its sockets is at. Changes nothing.
import { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

/** Who listens to what, by the names of the functions. */
function listeners(socket) {
  return socket
    .eventNames()
    .filter((name) => typeof name === 'string')
    .map(
      (name) =>
        `${name}(${socket
          .listeners(name)
          .map((f) => f.name || f.listener?.name || '-')
          .join(' ')})`,
    )
    .join(' ');
}

function describe(socket) {
  const { localPort, remotePort, bytesRead, bytesWritten, connecting, destroyed, allowHalfOpen } = socket;
  const readable = {
    paused: socket.isPaused(),
    flowing: socket.readableFlowing,
    ended: socket.readableEnded,
    buffered: socket.readableLength,
    handleReads: socket._handle?.reading,
  };
  const writable = {
    ended: socket.writableEnded,
    finished: socket.writableFinished,
    queued: socket.writableLength,
  };
  return JSON.stringify({
    kind: socket instanceof TLSSocket ? 'tls' : 'tcp',
    localPort,
    remotePort,
    connecting,
    destroyed,
    allowHalfOpen,
    timeoutMs: socket.timeout,
    bytesRead,
    bytesWritten,
    readable,
    writable,
    parser: socket.parser != null,
    listeners: listeners(socket),
  });
}

process.on('message', (message) => {
  if (message?.describeSockets !== true) return;
  // Not documented, and the only way to see a socket that nobody else holds.
  const sockets = process._getActiveHandles().filter((handle) => handle instanceof Socket);
  process.send({ sockets: sockets.map(describe) });
});
// Listening for messages must not keep the gateway alive.
process.channel?.unref();
