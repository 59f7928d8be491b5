import type { ApiClient } from '../../../client/client.js';
import { ask } from '../api/client.js';

export type Scope = 'all' | 'buyer' | 'provider' | 'device' | 'destination';

/** Keeps what was cut from coming back: suspends the buyer, bans the user, denies the destination. */
export async function hold(api: ApiClient, scope: Scope, id: string, reason: string): Promise<void> {
  const path = { id };
  if (scope === 'buyer')
    await ask(api.PATCH('/api/admin/buyers/{id}', { params: { path }, body: { status: 'suspended' } }));
  else if (scope === 'provider')
    await ask(api.POST('/api/admin/user/{id}/ban', { params: { path }, body: { reason } }));
  else if (scope === 'destination')
    await changeDestinations(api, (lists) => {
      const list = isAddress(id) ? lists.ips : lists.domains;
      if (!list.includes(id)) list.push(id);
    });
}

/** Takes `hold` back. */
export async function lift(api: ApiClient, scope: Scope, id: string): Promise<true> {
  const path = { id };
  if (scope === 'buyer')
    await ask(api.PATCH('/api/admin/buyers/{id}', { params: { path }, body: { status: 'active' } }));
  else if (scope === 'provider') await ask(api.POST('/api/admin/user/{id}/unban', { params: { path } }));
  else if (scope === 'destination')
    await changeDestinations(api, (lists) => {
      lists.domains = lists.domains.filter((entry) => entry !== id);
      lists.ips = lists.ips.filter((entry) => entry !== id);
    });
  return true;
}

/** Addresses and networks, as opposed to names. */
function isAddress(text: string): boolean {
  return /^[0-9.]+(\/[0-9]+)?$/.test(text) || text.includes(':');
}

/** Reads the lists and writes them changed; the server refuses when another admin was between. */
async function changeDestinations(
  api: ApiClient,
  change: (lists: { domains: string[]; ips: string[] }) => void,
): Promise<void> {
  const { denied_domains, denied_ips, version } = await ask(api.GET('/api/admin/policy/destinations'));
  const lists = { domains: [...denied_domains], ips: [...denied_ips] };
  change(lists);
  await ask(
    api.PUT('/api/admin/policy/destinations', {
      body: { denied_domains: lists.domains, denied_ips: lists.ips, version },
    }),
  );
}
