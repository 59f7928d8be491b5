import { sha256 } from '@noble/hashes/sha2.js';
import { keccak_256 } from '@noble/hashes/sha3.js';
import { createBase58check } from '@scure/base';

/** The networks a payout may go over, by the names Cryptomus has for them. */
export const PAYOUT_NETWORKS = ['TRON', 'ETH', 'BSC', 'POLYGON'] as const;
export type PayoutNetwork = (typeof PAYOUT_NETWORKS)[number];

/** As people know them; the kind of token is what wallets ask for. */
export const PAYOUT_NETWORK_NAMES: Readonly<Record<PayoutNetwork, string>> = {
  TRON: 'TRON (TRC20)',
  ETH: 'Ethereum (ERC20)',
  BSC: 'BNB Smart Chain (BEP20)',
  POLYGON: 'Polygon',
};

/** Whether the text is an address of the network, its checksum included. Never trims: what is kept is what was given. */
export function isAddressOf(network: PayoutNetwork, address: string): boolean {
  return network === 'TRON' ? isTronAddress(address) : isEvmAddress(address);
}

/** First byte of every address on TRON's main network. */
const TRON_PREFIX = 0x41;
const TRON_BYTES = 21;
const base58check = createBase58check(sha256);

/** Base58Check of 0x41 and 20 bytes (developers.tron.network, "Account"). */
function isTronAddress(address: string): boolean {
  try {
    const bytes = base58check.decode(address);
    return bytes.length === TRON_BYTES && bytes[0] === TRON_PREFIX;
  } catch {
    return false; // another letter, or the checksum is wrong
  }
}

/** EIP-55: mixed case is a checksum and must be right; all lower or all upper case carries none. */
function isEvmAddress(address: string): boolean {
  if (!/^0x[0-9a-fA-F]{40}$/.test(address)) return false;
  const digits = address.slice(2);
  const lower = digits.toLowerCase();
  if (/^0{40}$/.test(digits)) return false; // nobody's: money sent there is burnt
  if (digits === lower || digits === digits.toUpperCase()) return true;
  const hash = keccak_256(Buffer.from(lower, 'ascii'));
  return [...lower].every((digit, i) => {
    const nibble = ((hash[i >> 1] as number) >> (i % 2 === 0 ? 4 : 0)) & 15;
    return digits[i] === (nibble >= 8 ? digit.toUpperCase() : digit);
  });
}
