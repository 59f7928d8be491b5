/** A DNS query over SOCKS5 UDP through the whole system: `npm start`, an admin's grant, and the buyer's usage. */

import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { dnsAnswer, dnsQuery, serveDns } from '../helpers/dns.js';
import { startMigratedPostgres } from '../helpers/services.js';
import { socksAssociate, udpReply, udpRequest } from '../helpers/socks-udp-client.js';
import { removeData, startStandalone } from '../helpers/standalone.js';
import { UdpPeer } from '../helpers/udp-peer.js';

t.test('a name is looked up through a device, and the usage shows exactly those bytes', async (t) => {
  const server = serveDns(await UdpPeer.open(t), '192.0.2.55');
  const database = await startMigratedPostgres();
  t.teardown(() => database.stop());
  const system = await startStandalone({
    env: { TS_DATABASE_URL: database.url, TS_DEV_ALLOW: `127.0.0.1:${server.port}` },
  });
  t.teardown(async () => {
    await system.stop();
    await removeData(system.dataDir);
  });
  const { buyer, admin, proxy_port: proxyPort } = system.file;
  const associate = () => socksAssociate({ proxyPort, username: buyer.username, password: buyer.password });
  const grant = async (udp: boolean) => {
    const response = await fetch(`${system.file.api_url}/api/admin/buyers/${buyer.id}`, {
      method: 'PATCH',
      headers: { authorization: `Bearer ${admin.token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ limits: { udp } }),
    });
    t.equal(response.status, 200);
    await response.body?.cancel();
  };
  const usage = async () => (await system.api('/api/buyer/me/usage', buyer.token)).total;

  t.equal((await associate()).reply, 2, 'off by default');
  await grant(true);
  let association = await associate();
  // how soon is limits.test.ts's question
  for (let tries = 0; tries < 200 && association.reply === 2; tries++) {
    await delay(50);
    association = await associate();
  }
  t.equal(association.reply, 0, 'on by the grant');

  const client = await UdpPeer.open(t);
  let up = 0;
  let down = 0;
  for (const [id, name] of ['example.org', 'www.example.org', `${'a'.repeat(40)}.example.net`].entries()) {
    const query = dnsQuery(id + 1, name);
    client.send(udpRequest('127.0.0.1', server.port, query), association.port, association.address);
    const { host, port, data } = udpReply((await client.next()).bytes);
    t.same([host, port], ['127.0.0.1', server.port]);
    t.equal(dnsAnswer(query, data), '192.0.2.55', name);
    up += query.length;
    down += data.length;
  }

  await grant(false);
  if (!association.control.destroyed) await once(association.control, 'close');
  t.pass('the withdrawn grant cuts it');
  let booked = await usage();
  for (let tries = 0; tries < 200 && (booked as { bytes: number }).bytes < up + down; tries++) {
    await delay(50);
    booked = await usage();
  }
  t.match(booked, { bytes_up: up, bytes_down: down, bytes: up + down });
});
