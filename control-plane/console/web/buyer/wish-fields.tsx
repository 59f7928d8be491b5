import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useLoad } from '../api/use-load.js';
import { CheckField, SelectField, TextField } from '../parts/form.js';
import { randomHex } from '../parts/random.js';
import { countryName } from './countries.js';
import type { findings, Wish } from './username.js';

type Fields = Omit<Wish, 'account'>;
type Option = readonly [value: string, label: string];

/** Places are as many as the list gives. */
const PLACES_SHOWN = 200;
const SESSION_BYTES = 4;

/** A name that nobody else of the account uses, with good odds. */
function newSession(): string {
  return randomHex(SESSION_BYTES);
}

/** What a username can say of the exit, with what is online now to choose from. */
export function WishFields(props: {
  wish: Fields;
  wrong: ReturnType<typeof findings>;
  onWish: (wish: Fields) => void;
}) {
  const { wish, wrong, onWish } = props;
  const region = /^[A-Za-z]{2}$/.test(wish.country) ? { region: wish.country } : {};
  const all = useLoad((api, signal) =>
    ask(api.GET('/api/buyer/locations', { params: { query: { limit: PLACES_SHOWN } }, signal })),
  );
  const there = useLoad(
    (api, signal) =>
      ask(api.GET('/api/buyer/locations', { params: { query: { ...region, limit: PLACES_SHOWN } }, signal })),
    [wish.country],
  );
  const [keep, setKeep] = useState(wish.session !== '');
  const set = (change: Partial<Fields>) => onWish({ ...wish, ...change });
  const countries = (all.data?.countries ?? []).map(
    ({ country, available }): Option => [country, `${countryName(country)} (${available} free)`],
  );
  if (wish.country !== '' && wish.country !== 'EU' && !countries.some(([code]) => code === wish.country))
    countries.push([wish.country, `${countryName(wish.country)} (none online)`]);
  const cities = (there.data?.cities ?? []).map(
    ({ city, available }): Option => [city, `${city} (${available} free)`],
  );
  if (wish.city !== '' && !cities.some(([city]) => city === wish.city)) cities.push([wish.city, wish.city]);
  const networks = (there.data?.asns ?? []).map(
    ({ asn, isp, available }): Option => [String(asn), `AS${asn} ${isp ?? ''} (${available} free)`],
  );
  if (wish.asn !== '' && !networks.some(([asn]) => asn === wish.asn))
    networks.push([wish.asn, `AS${wish.asn}`]);
  return (
    <>
      <div class="fields">
        <SelectField
          label="Country"
          value={wish.country}
          onValue={(country) => set({ country, city: '', asn: '' })}
          options={[['', 'Any'], ['EU', 'European Union'], ...countries]}
        />
        {cities.length > 0 && wish.country !== '' && (
          <SelectField
            label="City"
            value={wish.city}
            onValue={(city) => set({ city })}
            options={[['', 'Any'], ...cities]}
          />
        )}
        {wish.country !== '' && (
          <SelectField
            label="If nothing is free there"
            value={wish.fallback}
            onValue={(fallback) => set({ fallback })}
            options={[
              ['', 'Refuse (NO_PEER)'],
              ['country', 'Anywhere in the country'],
              ['any', 'Anywhere'],
            ]}
          />
        )}
      </div>
      <CheckField
        label="Keep the same exit"
        hint="Without it, each connection may get another one."
        checked={keep}
        onValue={(on) => {
          setKeep(on);
          set({ session: on ? newSession() : '', strict: false, ttlMinutes: '' });
        }}
      />
      {keep && (
        <div class="fields">
          <TextField
            label="Session"
            value={wish.session}
            onValue={(session) => set({ session })}
            spellcheck={false}
            hint={wrong.session ?? 'Your own name for it; another name is another exit.'}
          />
          <TextField
            label="Minutes it waits unused"
            inputMode="numeric"
            value={wish.ttlMinutes}
            onValue={(ttlMinutes) => set({ ttlMinutes })}
            placeholder="10"
            hint={wrong.ttlMinutes ?? 'From 1 to 1440.'}
          />
          <CheckField
            label="Fail when the exit is lost"
            hint="Otherwise another one takes its place."
            checked={wish.strict}
            onValue={(strict) => set({ strict })}
          />
        </div>
      )}
      <details class="more-fields">
        <summary>Network, tag</summary>
        <div class="fields">
          {networks.length > 0 && (
            <SelectField
              label="Provider (ASN)"
              value={wish.asn}
              onValue={(asn) => set({ asn })}
              options={[['', 'Any'], ...networks]}
            />
          )}
          <SelectField
            label="Kind of connection"
            value={wish.net}
            onValue={(net) => set({ net })}
            options={[
              ['', 'Any'],
              ['wifi', 'Wi-Fi'],
              ['mobile', 'Mobile'],
            ]}
          />
          <TextField
            label="Tag"
            value={wish.tag}
            onValue={(tag) => set({ tag })}
            spellcheck={false}
            hint={wrong.tag ?? 'A label of yours for the usage tables.'}
          />
        </div>
      </details>
    </>
  );
}
