import world from 'virtual:world-map';
import { useState } from 'preact/hooks';
import { countText } from '../parts/amounts.js';
import { countryText } from './admin-parts.js';

export interface CountryOnline {
  /** ISO 3166, two letters. */
  country: string;
  online: number;
  free: number;
}

/**
 * The world with its countries coloured by how many devices are online, the more the stronger. A picture beside the list of
 * countries, which says and does the same for whoever can not see or point at it.
 */
export default function WorldMap(props: {
  countries: readonly CountryOnline[];
  /** The country whose devices are listed; empty: all. */
  chosen: string;
  onChoose: (country: string) => void;
}) {
  const { chosen, onChoose } = props;
  const [pointed, setPointed] = useState<string>();
  const byCode = new Map(props.countries.map((one) => [one.country, one]));
  const most = Math.max(0, ...props.countries.map(({ online }) => online));
  const shown = pointed === undefined ? undefined : byCode.get(pointed);
  const handlers = (code: string) => ({
    onClick: () => onChoose(code === chosen ? '' : code),
    onPointerEnter: () => setPointed(code),
    onPointerLeave: () => setPointed(undefined),
  });
  /** How strong its colour is; only by custom property, since the policy lets no style come as text. */
  const strength = (online: number) => ({
    '--strength': `${Math.round(30 + (70 * Math.log(1 + online)) / Math.log(1 + most))}%`,
  });
  return (
    <div class="world">
      <svg
        viewBox={`0 0 ${world.width} ${world.height}`}
        role="img"
        aria-label={`Map of the world: devices share from ${props.countries.length} countries, listed below`}
      >
        {world.shapes.map(({ code, path }) => {
          const here = code === null ? undefined : byCode.get(code);
          return code === null || here === undefined ? (
            <path key={path} class="land" d={path} data-country={code ?? undefined} />
          ) : (
            <path
              key={path}
              class={`land land-shared${code === chosen ? ' land-chosen' : ''}`}
              d={path}
              data-country={code}
              style={strength(here.online)}
              {...handlers(code)}
            />
          );
        })}
        {world.dots.map(({ code, x, y }) => {
          const here = byCode.get(code);
          return (
            here !== undefined && (
              <path
                key={code}
                class={`speck${code === chosen ? ' land-chosen' : ''}`}
                d={`M${x} ${y}h0`}
                data-country={code}
                style={strength(here.online)}
                {...handlers(code)}
              />
            )
          );
        })}
      </svg>
      <p class="world-foot quiet small" aria-hidden="true">
        <span>
          {shown === undefined
            ? 'Click a country to see its devices below.'
            : `${countryText(shown.country)}: ${countText(shown.online)} online, ${countText(shown.free)} free`}
        </span>
        {most > 1 && (
          <span class="world-scale">
            1 <span class="world-ramp" /> {countText(most)} online
          </span>
        )}
      </p>
    </div>
  );
}
