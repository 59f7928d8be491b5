import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { socksAssociate } from '../helpers/socks-udp-client.js';
import { BYSTANDER, MEMBER } from './people.js';
import { type AssociationPort, boundSocket } from './player.js';
import type { World } from './world.js';

const USERNAME = `${BYSTANDER.username}-country-fr`;

/** Bytes sent and echoed. */
const SERVED_BYTES = 64;

/**
 * A client with a good login asks for a connection through the device and has its bytes echoed. Resolves to what went
 * wrong, or null; within `timeoutMs`.
 */
export function servedWell(world: World, timeoutMs: number): Promise<string | null> {
  const name = Buffer.from(USERNAME);
  const secret = Buffer.from(BYSTANDER.password);
  const host = Buffer.from('x0.fuzz.example');
  const payload = randomBytes(SERVED_BYTES);
  const expected = Buffer.concat([Buffer.from([5, 2, 1, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]), payload]);
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port: world.portOf('any'), noDelay: true });
    let answer = Buffer.alloc(0);
    const end = (problem: string | null) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(problem);
    };
    const timer = setTimeout(
      () => end(`a good client was not served within ${timeoutMs} ms: ${answer.toString('hex', 0, 40)}`),
      timeoutMs,
    );
    socket.on('error', () => {});
    socket.once('close', () => end(`a good client was turned away: ${answer.toString('hex', 0, 40)}`));
    socket.on('data', (bytes: Buffer) => {
      answer = Buffer.concat([answer, bytes]);
      if (!expected.subarray(0, answer.length).equals(answer))
        end(`a good client was answered wrongly: ${answer.toString('hex', 0, 40)}`);
      else if (answer.length === expected.length) end(null);
    });
    socket.write(
      Buffer.concat([
        ...[Buffer.of(5, 1, 2, 1, name.length), name, Buffer.of(secret.length), secret],
        ...[Buffer.of(5, 1, 0, 3, host.length), host, Buffer.of(1, 187), payload],
      ]),
    );
  });
}

/** Associations of the member for datagrams to be sent to. Throws when one is refused. */
export async function openAssociations(
  world: World,
  count: number,
): Promise<{ ports: AssociationPort[]; close: () => void }> {
  const opened = await Promise.all(
    Array.from({ length: count }, async () => {
      const { control, reply, port } = await socksAssociate({
        proxyPort: world.portOf('any'),
        username: `${MEMBER.username}-country-us`,
        password: MEMBER.password,
      });
      if (reply !== 0) throw new Error(`ASSOCIATE was answered ${reply}`);
      return { control, port, client: await boundSocket('127.0.0.1') };
    }),
  );
  return {
    ports: opened,
    close: () => {
      for (const { control, client } of opened) {
        control.destroy();
        client.close();
      }
    },
  };
}
