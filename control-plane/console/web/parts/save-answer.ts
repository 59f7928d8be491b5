import type { ApiClient } from '../../../client/client.js';
import { apiOf } from '../api/client.js';
import { asApiError } from '../api/problem.js';
import type { Role } from '../session/session.js';
import { toast } from '../shell/toasts.js';
import { saveFile } from './csv.js';

/** Saves the CSV file that the server answers with. Tells what goes wrong; rejects never. */
export async function saveAnswer(
  name: string,
  ask: (api: ApiClient) => Promise<Blob>,
  role: Role,
  signal: AbortSignal,
): Promise<void> {
  try {
    const file = await ask(apiOf(role));
    if (!signal.aborted) saveFile(`${name}.csv`, 'text/csv', [file]);
  } catch (error) {
    if (!signal.aborted) toast(asApiError(error).message, 'bad');
  }
}
