/** Gateways beside a `TestWorld`'s control plane, and devices that share through them. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { type GatewayConfig, readGatewayConfig } from '../../gateway/config.js';
import { type Gateway, startGateway } from '../../gateway/gateway.js';
import { silentLog } from '../../gateway/runtime/logging.js';
import { ANY_PORTS } from './any-ports.js';
import { signedIn, type TestWorld, withDevice } from './control-plane.js';

/**
 * A gateway of the world on free ports, with a journal folder of its own; both are gone at the end of the test. Whoever
 * starts the gateway again puts the new one into what is returned.
 */
export async function worldGateway(
  t: Test,
  world: TestWorld,
  name: string,
  settings: Readonly<Record<string, string>> = {},
): Promise<{ gateway: Gateway; config: GatewayConfig }> {
  const dataDir = await mkdtemp(join(tmpdir(), `ts-${name}-`));
  t.teardown(() => rm(dataDir, { recursive: true, force: true }));
  const config = readGatewayConfig({
    TS_REDIS_URL: world.redisUrl,
    TS_GATEWAY_ID: name,
    TS_GATEWAY_DATA_DIR: dataDir,
    ...ANY_PORTS,
    TS_DEV_LOOPBACK_COUNTRY: 'DE',
    ...settings,
  });
  const site = { config, gateway: await startGateway(config, silentLog) };
  t.teardown(() => site.gateway.stop(0));
  return site;
}

/** A provider with a registered device that may start sharing: `start` gives the session and a tunnel ticket. */
export async function sharingProvider(world: TestWorld): Promise<{
  userId: string;
  token: string;
  start: () => Promise<{ sessionId: string; ticket: string }>;
}> {
  const user = await signedIn(world);
  const { deviceId } = await withDevice(world, user);
  const start = async () => {
    const { status, body } = await world.call('POST', '/api/traffic/start', {
      token: user.token,
      from: '127.0.0.1',
      body: { device_id: deviceId, client_version: '1.0.0' },
    });
    if (status !== 200) throw new Error(JSON.stringify(body));
    return { sessionId: body.session_id as string, ticket: body.tunnel.ticket as string };
  };
  return { userId: user.userId, token: user.token, start };
}
