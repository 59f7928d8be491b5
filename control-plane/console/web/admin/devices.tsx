import type { ComponentProps, ComponentType } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useLoad } from '../api/use-load.js';
import { useLive } from '../live/live.js';
import { countText } from '../parts/amounts.js';
import { Time } from '../parts/figures.js';
import { Badge, Card, PageHead } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import type { Column } from '../parts/table.js';
import { BarList, countryText, FilterField, SearchField, UserId, useFilters } from './admin-parts.js';
import type { ItemOf } from './api-types.js';
import { FilteredTable } from './filtered-table.js';
import type WorldMap from './world-map.js';

const PATH = '/api/admin/devices';
type Device = ItemOf<typeof PATH>;

const COLUMNS: readonly Column<Device>[] = [
  {
    key: 'device',
    title: 'Device',
    cell: (row) => (
      <span>
        {row.model ?? row.os} <code class="small">{row.device_id}</code>
      </span>
    ),
  },
  {
    key: 'user',
    title: 'User',
    cell: (row) =>
      row.username === null ? (
        <UserId id={row.user_id} />
      ) : (
        <a href={`/admin/users/${row.user_id}`}>{row.username}</a>
      ),
  },
  {
    key: 'state',
    title: 'State',
    cell: (row) =>
      row.online === true ? (
        <Badge tone="good">online</Badge>
      ) : row.refused_code !== null ? (
        <Badge tone="bad">{row.refused_code.replaceAll('_', ' ')}</Badge>
      ) : (
        <Badge>{row.online === null ? 'unknown' : 'offline'}</Badge>
      ),
  },
  { key: 'country', title: 'Country', cell: (row) => countryText(row.country) },
  { key: 'ip', title: 'Address', cell: (row) => row.ip ?? '–' },
  { key: 'version', title: 'Version', cell: (row) => row.client_version },
  { key: 'gateway', title: 'Gateway', cell: (row) => row.gateway_id ?? '–' },
  { key: 'seen', title: 'Seen', sort: 'last_seen_at', cell: (row) => <Time at={row.last_seen_at} /> },
  { key: 'since', title: 'Since', sort: 'created_at', cell: (row) => <Time at={row.created_at} /> },
];

type MapProps = ComponentProps<typeof WorldMap>;

/** Its shapes are loaded when it is shown; the room for them is there before. */
function LazyMap(props: MapProps) {
  const [loaded, setLoaded] = useState<{ map: ComponentType<MapProps> }>();
  useEffect(() => {
    let gone = false;
    void import('./world-map.js').then((module) => {
      if (!gone) setLoaded({ map: module.default });
    });
    return () => {
      gone = true;
    };
  }, []);
  return loaded === undefined ? <div class="world loading" /> : <loaded.map {...props} />;
}

/** Devices of all providers, and where they share from. */
export default function Devices() {
  const [filters, setFilter] = useFilters('query', 'country', 'user_id');
  const countries = useLoad((api, signal) => ask(api.GET('/api/admin/devices/countries', { signal })));
  const online = useLive('admin').state.value?.fleet?.devices_online;
  useEffect(() => {
    if (online !== undefined) countries.reload();
  }, [online]);
  const codes = countries.data?.countries.map(({ country }) => country) ?? [];
  return (
    <>
      <PageHead title="Devices" lead={online === undefined ? undefined : `${countText(online)} online now`} />
      <Card
        title="Where devices share now"
        lead={
          <>
            As of <Time at={countries.data?.read_at} />.
          </>
        }
      >
        <Show of={countries}>
          {(data) => (
            <>
              <LazyMap countries={data.countries} chosen={filters.country} onChoose={setFilter('country')} />
              <BarList
                empty="No device is online"
                rows={data.countries.map(({ country, online, free }) => ({
                  label: countryText(country),
                  href: `/admin/devices?country=${country}`,
                  value: online,
                  text: (
                    <>
                      {countText(online)} <span class="quiet">{countText(free)} free</span>
                    </>
                  ),
                }))}
              />
            </>
          )}
        </Show>
      </Card>
      <Card>
        <FilteredTable
          list="devices"
          caption="Devices"
          columns={COLUMNS}
          rowKey={(row) => `${row.user_id}${row.device_id}`}
          filters={filters}
          revision={online ?? 0}
          empty="No devices like that"
        >
          <SearchField
            label="Search"
            placeholder="Id, model, address"
            value={filters.query}
            onValue={setFilter('query')}
          />
          <FilterField
            label="Country"
            value={filters.country}
            onValue={setFilter('country')}
            values={[...new Set([...codes, ...(filters.country ? [filters.country] : [])])]}
          />
        </FilteredTable>
      </Card>
    </>
  );
}
