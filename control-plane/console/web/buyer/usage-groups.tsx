import type { ComponentChildren } from 'preact';
import { ask } from '../api/client.js';
import { bytesSum, countText } from '../parts/amounts.js';
import { Bytes, Money, Time } from '../parts/figures.js';
import { Empty } from '../parts/states.js';
import { type Column, Table } from '../parts/table.js';
import { Tabs } from '../parts/tabs.js';
import { countryName } from './countries.js';
import { Shares } from './parts.js';

type Group = 'day' | 'country' | 'session' | 'tag' | 'sub_user' | 'host';

/** A group as the API lists it, with the fields that name it. */
interface Row {
  day?: string;
  country?: string;
  tag?: string | null;
  session_name?: string | null;
  sub_user_id?: string | null;
  account?: string | null;
  host?: string;
  port?: number;
  bytes_up: number | string;
  bytes_down: number | string;
  streams: number;
  charged_share: string;
  last_at: string;
}

/** The largest groups of each kind, as the usage call tells them. */
interface Tops {
  by_country: readonly (Pick<Row, 'country' | 'bytes_up' | 'bytes_down'> & { country: string })[];
  by_tag: readonly Row[] | null;
  by_session: readonly Row[] | null;
  by_sub_user: readonly Row[] | null;
  by_destination: readonly Row[] | null;
}

interface Kind {
  group: Group;
  label: string;
  /** What the group is called in a table and a file. */
  title: string;
  name: (row: Partial<Row>) => string;
  cell?: (row: Row) => ComponentChildren;
  tops: (usage: Tops) => readonly Partial<Row>[] | null;
}

const KINDS: readonly Kind[] = [
  { group: 'day', label: 'Day', title: 'Day', name: ({ day }) => day ?? '', tops: () => [] },
  {
    group: 'country',
    label: 'Country',
    title: 'Country',
    name: ({ country = '' }) => countryName(country),
    tops: (usage) => usage.by_country,
  },
  {
    group: 'session',
    label: 'Session',
    title: 'Session',
    name: ({ session_name }) => session_name ?? '(none)',
    tops: (usage) => usage.by_session,
  },
  {
    group: 'tag',
    label: 'Tag',
    title: 'Tag',
    name: ({ tag }) => tag ?? '(none)',
    tops: (usage) => usage.by_tag,
  },
  {
    group: 'sub_user',
    label: 'Sub-user',
    title: 'Sub-user',
    name: ({ account, sub_user_id }) => (sub_user_id == null ? '(main account)' : (account ?? sub_user_id)),
    cell: ({ account, sub_user_id }) =>
      sub_user_id == null ? (
        '(main account)'
      ) : (
        <a href={`/buyer/sub-users/${sub_user_id}`}>{account ?? sub_user_id}</a>
      ),
    tops: (usage) => usage.by_sub_user,
  },
  {
    group: 'host',
    label: 'Destination',
    title: 'Destination',
    name: ({ host, port }) => (port === 0 ? (host ?? '') : `${host}:${port}`),
    tops: (usage) => usage.by_destination,
  },
];

const bytesOf = ({ bytes_up = 0, bytes_down = 0 }: Partial<Row>) => bytesSum(bytes_up, bytes_down);
const TOPS_SHOWN = 5;

/** Usage by one thing after the other: the largest as bars, all of them as a table to page through and export. */
export function UsageGroups(props: {
  days: { from: string; to: string };
  revision: number;
  usage: Tops | undefined;
}) {
  const { days, revision, usage } = props;
  return (
    <Tabs
      label="Usage by"
      tabs={KINDS.map((kind) => ({
        key: kind.group,
        label: kind.label,
        content: () => (
          <div class="stack" key={kind.group}>
            {usage !== undefined && <Largest kind={kind} usage={usage} />}
            <Table
              caption={`Usage by ${kind.label.toLowerCase()}`}
              columns={columnsOf(kind)}
              rowKey={(row) => kind.name(row)}
              load={async (api, { limit, cursor }, signal) => {
                const answer = await ask(
                  api.GET('/api/buyer/me/usage', {
                    params: { query: { ...days, group_by: kind.group, limit, ...(cursor && { cursor }) } },
                    signal,
                  }),
                );
                return { items: (answer.items ?? []) as Row[], next_cursor: answer.next_cursor ?? null };
              }}
              filters={JSON.stringify([kind.group, days])}
              revision={revision}
              exportName={`usage-by-${kind.group.replace('_', '-')}-${days.from}-${days.to}`}
              empty={
                <Empty title="No traffic in these days">What you send through the proxy appears here.</Empty>
              }
            />
          </div>
        ),
      }))}
    />
  );
}

function Largest({ kind, usage }: { kind: Kind; usage: Tops }) {
  const tops = kind.tops(usage);
  if (tops === null)
    return <p class="quiet small">Too much in these days to say which are the largest: choose fewer days.</p>;
  const items = tops
    .map((row) => ({ name: kind.name(row), bytes: bytesOf(row) }))
    .sort((a, b) => (a.bytes < b.bytes ? 1 : -1))
    .slice(0, TOPS_SHOWN);
  return items.length < 2 ? null : <Shares items={items} />;
}

function columnsOf(kind: Kind): Column<Row>[] {
  return [
    { key: 'name', title: kind.title, cell: kind.cell ?? kind.name, csv: kind.name },
    {
      key: 'up',
      title: 'Up',
      number: true,
      cell: ({ bytes_up }) => <Bytes bytes={bytes_up} />,
      csv: ({ bytes_up }) => bytes_up,
    },
    {
      key: 'down',
      title: 'Down',
      number: true,
      cell: ({ bytes_down }) => <Bytes bytes={bytes_down} />,
      csv: ({ bytes_down }) => bytes_down,
    },
    {
      key: 'streams',
      title: 'Connections',
      number: true,
      cell: ({ streams }) => countText(streams),
      csv: ({ streams }) => streams,
    },
    {
      key: 'charged',
      title: 'Charged (share)',
      number: true,
      cell: ({ charged_share }) => <Money amount={charged_share} />,
      csv: ({ charged_share }) => charged_share,
    },
    {
      key: 'last',
      title: 'Last',
      cell: ({ last_at }) => <Time at={last_at} />,
      csv: ({ last_at }) => last_at,
    },
  ];
}
