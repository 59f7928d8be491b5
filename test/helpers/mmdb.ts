/** What a record of a GeoIP database may hold here. */
export type MmdbValue = string | number | MmdbValue[] | { [key: string]: MmdbValue };

/**
 * A GeoIP database as an operator would bring it: MaxMind DB file format 2.0, IPv4, 24-bit records. For tests of a few
 * networks: values of less than 285 bytes, no pointers. `networks`: CIDRs that do not overlap, with their records.
 */
export function mmdb(networks: Record<string, MmdbValue>): Buffer {
  const nodes: Array<[Branch, Branch]> = [[null, null]];
  const data: Buffer[] = [];
  let dataBytes = 0;
  for (const [cidr, record] of Object.entries(networks)) {
    const [address = '', length = '32'] = cidr.split('/');
    const bits = address
      .split('.')
      .map((part) => Number(part).toString(2).padStart(8, '0'))
      .join('')
      .slice(0, Number(length));
    let node = 0;
    for (let i = 0; i < bits.length; i++) {
      const branches = nodes[node] as [Branch, Branch];
      const side = Number(bits[i]) as 0 | 1;
      if (i === bits.length - 1) branches[side] = { at: dataBytes };
      else {
        const next = branches[side];
        node = typeof next === 'number' ? next : nodes.push([null, null]) - 1;
        branches[side] = node;
      }
    }
    const encoded = encode(record);
    data.push(encoded);
    dataBytes += encoded.length;
  }
  const tree = Buffer.alloc(nodes.length * 6);
  nodes.forEach((branches, n) => {
    branches.forEach((branch, side) => {
      const empty = nodes.length;
      const value = branch === null ? empty : typeof branch === 'number' ? branch : empty + 16 + branch.at;
      tree.writeUIntBE(value, n * 6 + side * 3, 3);
    });
  });
  const about: MmdbValue = {
    node_count: nodes.length,
    record_size: 24,
    ip_version: 4,
    database_type: 'Test-City',
    languages: ['en'],
    binary_format_major_version: 2,
    binary_format_minor_version: 0,
    build_epoch: 1_764_000_000,
    description: { en: 'for a test' },
  };
  const marker = Buffer.from('\xab\xcd\xefMaxMind.com', 'latin1');
  return Buffer.concat([tree, Buffer.alloc(16), ...data, marker, encode(about)]);
}

/** Another node, a record, or nothing known. */
type Branch = number | { at: number } | null;

function encode(value: MmdbValue): Buffer {
  if (typeof value === 'string') {
    const bytes = Buffer.from(value);
    return Buffer.concat([control(2, bytes.length), bytes]);
  }
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return Buffer.concat([control(6, 4), bytes]);
  }
  if (Array.isArray(value)) return Buffer.concat([control(11, value.length), ...value.map(encode)]);
  const entries = Object.entries(value);
  return Buffer.concat([control(7, entries.length), ...entries.flat().map((part) => encode(part))]);
}

/** Type and size; types above 7 stand in a byte of their own. */
function control(type: number, size: number): Buffer {
  if (size >= 285) throw new Error('too large for this writer');
  const sizeBits = Math.min(size, 29);
  const bytes = type > 7 ? [sizeBits, type - 7] : [(type << 5) | sizeBits];
  if (size >= 29) bytes.push(size - 29);
  return Buffer.from(bytes);
}
