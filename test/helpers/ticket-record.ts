import { randomUUID } from 'node:crypto';
import type { TicketRecord } from '../../gateway/live/records.js';

/** What a ticket stands for: a new device of a new provider in the US, but for `fields`. */
export function ticketRecord(fields: Partial<TicketRecord> = {}): TicketRecord {
  return {
    sessionId: randomUUID(),
    deviceId: `device-${randomUUID()}`,
    providerId: randomUUID(),
    exitIp: '127.0.0.1',
    country: 'US',
    city: null,
    asn: null,
    networkType: 'wifi',
    offerBytes: 2 ** 40,
    capBytesPerDay: null,
    termsVersion: '1',
    clientVersion: '1.0.0',
    ...fields,
  };
}
