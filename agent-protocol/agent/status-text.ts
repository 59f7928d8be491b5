import type { AgentStatus, LimitsView } from './local-agent.js';
import type { DayHours } from './owner-rules.js';
import { readableBytes } from './status-line.js';

const PAUSED: Readonly<Record<string, string>> = {
  owner: 'paused by you',
  hours: 'paused, outside your hours',
  wifi_only: 'paused, not on Wi-Fi or a cable',
  charging_only: 'paused, not on mains power',
  cap_reached: 'paused, a data cap is used up',
};

/** The status as people read it, one line a thing. */
export function statusText(s: AgentStatus): string {
  const until = s.paused?.until ? ` until ${localTime(s.paused.until)}` : '';
  const since = s.online_since === null ? '' : ` since ${localTime(s.online_since)}`;
  const state =
    s.paused === null ? `${s.state}${since}` : `${PAUSED[s.paused.by] ?? 'paused'}${until} (${s.state})`;
  const used = ({ bytes, cap_bytes: cap }: AgentStatus['today']) =>
    `${readableBytes(bytes)}${cap === null ? '' : ` of ${readableBytes(cap)}`}`;
  const { device, earnings, trouble } = s;
  const rows: [string, string][] = [['State', state]];
  if (trouble !== null && s.state !== 'online') rows.push(['Trouble', `${trouble.code}: ${trouble.text}`]);
  if (device !== null)
    rows.push(
      [
        'Earning',
        `${device.earns ? 'yes' : 'no'}, ${device.code}: ${device.what}${device.detail ? ` (${device.detail})` : ''}`,
      ],
      ['To do', device.todo],
    );
  rows.push(
    ['Speed', `${readableBytes(s.bytes_per_second)}/s, ${s.streams_open} connections`],
    ['Today', used(s.today)],
    ['This month', used(s.month)],
  );
  if (s.cap_bytes_left !== null) rows.push(['Cap', `${readableBytes(s.cap_bytes_left)} left`]);
  if (earnings !== null)
    rows.push([
      'Earned',
      `today ${dollars(earnings.today)}, this month ${dollars(earnings.month)}, balance ${dollars(earnings.available)}, pending ${dollars(earnings.pending)}`,
    ]);
  rows.push(['Network', s.network]);
  rows.push([
    'Version',
    s.latest_version === null ? s.version : `${s.version}; ${s.latest_version} is available`,
  ]);
  if (s.page !== null) rows.push(['Page', s.page]);
  return lines(rows);
}

const NAMES: Readonly<Record<keyof LimitsView['machine'], string>> = {
  capBytesDay: 'Day',
  capBytesMonth: 'Month',
  bandwidthBytesPerSecond: 'Bandwidth',
  wifiOnly: 'Wi-Fi only',
  chargingOnly: 'Charging only',
  hours: 'Hours',
};

/** Limits as people read them. `which`: caps leaves out the hours, schedule everything else. */
export function limitsText({ machine, account }: LimitsView, which: 'caps' | 'schedule'): string {
  const names = (Object.keys(machine) as (keyof typeof machine)[]).filter(
    (name) => (name === 'hours') === (which === 'schedule'),
  );
  const rows: [string, string][] = names.map((name) => {
    const { value, from } = machine[name];
    const words = name === 'hours' ? hoursText(value as DayHours | null) : limitText(name, value);
    return [NAMES[name], from === 'option' ? `${words} (by an option of the running agent)` : words];
  });
  if (account !== null && which === 'schedule' && account.hours !== null)
    rows.push(['Account', `${hoursText(account.hours)}, for all your devices`]);
  if (account !== null && which === 'caps') {
    const more = [
      account.cap_bytes_left === null
        ? []
        : `${readableBytes(account.cap_bytes_left)} left over all your devices`,
      account.wifi_only ? 'Wi-Fi only' : [],
      account.charging_only ? 'charging only' : [],
    ].flat();
    if (more.length > 0) rows.push(['Account', more.join(', ')]);
  }
  return lines(rows);
}

function limitText(name: string, value: unknown): string {
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value !== 'number') return 'none';
  return `${readableBytes(value)}${name === 'bandwidthBytesPerSecond' ? '/s' : ''}`;
}

/** `22:00-06:00`, or any time. */
function hoursText(hours: DayHours | null): string {
  if (hours === null) return 'any time';
  const time = (minute: number) =>
    `${String(Math.floor(minute / 60)).padStart(2, '0')}:${String(minute % 60).padStart(2, '0')}`;
  return `${time(hours.fromMinute)}-${time(hours.toMinute)}`;
}

const dollars = (amount: string) => `$${amount.replace(/(\.\d\d\d*?)0+$/, '$1')}`;
const localTime = (iso: string) => new Date(iso).toLocaleString();
const lines = (rows: [string, string][]) =>
  rows.map(([name, value]) => `${name.padEnd(14)}${value}\n`).join('');
