import type { ApiError } from '../api/problem.js';
import { TextArea, TextField } from '../parts/form.js';
import type { LimitTexts } from './limit-values.js';

/** The first finding for a list: the API names the entry. */
function ofList(error: ApiError | undefined, name: string): ApiError | undefined {
  if (error === undefined || error.fields[name] !== undefined) return error;
  const entry = Object.entries(error.fields).find(([path]) => path.startsWith(`${name}/`));
  if (entry === undefined) return error;
  const [path, message] = entry;
  const finding = `Entry ${Number(path.slice(name.length + 1)) + 1} ${message}`;
  return { ...error, message: error.message, fields: { ...error.fields, [name]: finding } } as ApiError;
}

/** Everything a sub-user can be limited by. */
export function LimitFields(props: {
  texts: LimitTexts;
  error: ApiError | undefined;
  onTexts: (texts: LimitTexts) => void;
}) {
  const { texts, error } = props;
  const number = (key: keyof LimitTexts, label: string, name: string, hint: string) => (
    <TextField
      label={label}
      name={`limits/${name}`}
      error={error}
      inputMode="decimal"
      value={texts[key]}
      placeholder="no limit"
      onValue={(value) => props.onTexts({ ...texts, [key]: value })}
      hint={hint}
    />
  );
  const list = (key: keyof LimitTexts, label: string, name: string, hint: string) => (
    <TextArea
      label={label}
      name={`limits/${name}`}
      error={ofList(error, `limits/${name}`)}
      rows={2}
      value={texts[key]}
      onValue={(value) => props.onTexts({ ...texts, [key]: value })}
      hint={hint}
    />
  );
  return (
    <>
      <div class="fields">
        {number('streams', 'Connections at once', 'streams_max', 'Then CONN_LIMIT.')}
        {number('connections', 'New connections a second', 'connections_per_second_max', 'Then RATE_LIMIT.')}
        {number('mbits', 'Bandwidth, Mbit/s', 'bandwidth_bytes_per_second_max', 'Above it, slowed down.')}
        {number('dayGb', 'GB a day', 'bytes_per_day_max', 'UTC; then QUOTA_REACHED.')}
        {number('monthGb', 'GB a month', 'bytes_per_month_max', 'UTC; then QUOTA_REACHED.')}
      </div>
      <div class="fields">
        {list('ports', 'Only these ports', 'ports', 'Of those open to you, such as 443.')}
        {list(
          'allowed',
          'Only these destinations',
          'allowed_domains',
          'One a line: a name, .suffix for all below it, an address or network.',
        )}
        {list('denied', 'None of these destinations', 'denied_domains', 'Written the same way.')}
        {list(
          'passwordless',
          'Passwordless addresses',
          'passwordless_ips',
          'Clients there need no login at all: for browsers over SOCKS5.',
        )}
      </div>
    </>
  );
}
