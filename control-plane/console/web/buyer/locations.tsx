import { useEffect, useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useLoad } from '../api/use-load.js';
import { countText } from '../parts/amounts.js';
import { Time } from '../parts/figures.js';
import { SelectField } from '../parts/form.js';
import { Card, PageHead, Stat, Stats } from '../parts/layout.js';
import { Empty, Show } from '../parts/states.js';
import { type Column, Table } from '../parts/table.js';
import { Tabs } from '../parts/tabs.js';
import { countryName } from './countries.js';

/** As many as the API gives of each list. */
const PLACES_MAX = 200;
/** The board itself is some seconds old. */
const LOOK_MS = 10_000;

interface Counts {
  online: number;
  available: number;
}
interface Place extends Counts {
  country: string;
  state?: string | null;
  city?: string;
  asn?: number;
  isp?: string | null;
}

function connectPath({ country, city, asn }: Place): string {
  const query = new URLSearchParams({ country });
  if (city !== undefined) query.set('city', city);
  if (asn !== undefined) query.set('asn', String(asn));
  return `/buyer/connect?${query}`;
}

function placeName({ country, state, city, asn, isp }: Place): string {
  if (city !== undefined) return state == null || state === city ? city : `${city}, ${state}`;
  if (asn !== undefined) return `AS${asn}${isp == null ? '' : ` ${isp}`}`;
  return countryName(country);
}

function columnsOf(title: string, withCountry: boolean): Column<Place>[] {
  return [
    { key: 'place', title, cell: placeName, csv: placeName },
    ...(withCountry
      ? [
          {
            key: 'country',
            title: 'Country',
            cell: ({ country }: Place) => countryName(country),
            csv: ({ country }: Place) => country,
          },
        ]
      : []),
    {
      key: 'online',
      title: 'Online',
      number: true,
      cell: ({ online }) => countText(online),
      csv: ({ online }) => online,
    },
    {
      key: 'available',
      title: 'Free for you',
      number: true,
      cell: ({ available }) => countText(available),
      csv: ({ available }) => available,
    },
    {
      key: 'use',
      title: 'Use',
      cell: (place) => (
        <a href={connectPath(place)} aria-label={`Connect through ${placeName(place)}`}>
          Connect
        </a>
      ),
    },
  ];
}

/** Where there are exits now. */
export default function Locations() {
  const [region, setRegion] = useState('');
  const all = useLoad((api, signal) =>
    ask(api.GET('/api/buyer/locations', { params: { query: { limit: PLACES_MAX } }, signal })),
  );
  const there = useLoad(
    (api, signal) =>
      ask(
        api.GET('/api/buyer/locations', {
          params: { query: { limit: PLACES_MAX, ...(region !== '' && { region }) } },
          signal,
        }),
      ),
    [region],
  );
  useEffect(() => {
    const timer = setInterval(there.reload, LOOK_MS);
    return () => clearInterval(timer);
  }, [there.reload]);
  return (
    <>
      <PageHead
        title="Locations"
        lead="Exits that share now. One that serves somebody else is not free for you."
      />
      <div class="fields filters">
        <SelectField
          label="Where"
          value={region}
          onValue={setRegion}
          options={[
            ['', 'Everywhere'],
            ['EU', 'European Union'],
            ...(all.data?.countries ?? []).map(({ country }) => [country, countryName(country)] as const),
          ]}
        />
      </div>
      <Show of={there} lines={6}>
        {(data) => (
          <>
            <Stats>
              <Stat label="Online" note={<Time at={data.read_at} />}>
                {countText(data.total.online)}
              </Stat>
              <Stat label="Free for you" tone="good">
                {countText(data.total.available)}
              </Stat>
              <Stat label="Countries">{countText(data.countries.length)}</Stat>
            </Stats>
            <Card
              {...(data.truncated && {
                lead: `The ${PLACES_MAX} largest of each; choose a place to see more.`,
              })}
              title="Places"
            >
              <Tabs
                label="Places by"
                tabs={[
                  placesTab('Countries', 'Country', false, data.countries, data.read_at),
                  placesTab('Cities', 'City', true, data.cities, data.read_at),
                  placesTab('Networks', 'Network', true, data.asns, data.read_at),
                ]}
              />
            </Card>
          </>
        )}
      </Show>
    </>
  );
}

function placesTab(
  label: string,
  title: string,
  withCountry: boolean,
  places: readonly Place[],
  readAt: string,
) {
  return {
    key: title,
    label,
    content: () => (
      <Table
        key={title}
        caption={label}
        columns={columnsOf(title, withCountry)}
        rowKey={(place) => `${place.country} ${placeName(place)}`}
        load={async () => ({ items: [...places], next_cursor: null })}
        filters={JSON.stringify([title, readAt])}
        exportName={`locations-${label.toLowerCase()}`}
        empty={<Empty title="None online here">Look elsewhere, or come back in a minute.</Empty>}
      />
    ),
  };
}
