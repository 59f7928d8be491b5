import type { ComponentChildren } from 'preact';
import type { paths } from '../../../client/client.js';
import { Badge, type BadgeTone } from '../parts/layout.js';
import { Empty } from '../parts/states.js';

type Answer<Path extends keyof paths> = paths[Path] extends {
  get: { responses: { 200: { content: { 'application/json': infer Data } } } };
}
  ? Data
  : never;

export type Dashboard = Answer<'/api/dashboard'>;
export type Device = Dashboard['devices'][number];

/** Codes of `devices/states.ts` that their owner should look at. */
const TONES: Partial<Record<Device['state']['code'], BadgeTone>> = {
  earning: 'good',
  idle: 'info',
  moving: 'info',
  banned: 'bad',
  network_refused: 'bad',
  consent_missing: 'bad',
  client_outdated: 'bad',
  offline: 'plain',
  unknown: 'plain',
};

/** `address_in_use` → `address in use`. */
const words = (code: string) => code.replaceAll('_', ' ');

/** Devices, each with its state, what that means and what to do. `extra`: beside each. */
export function DeviceList(props: {
  devices: readonly Device[];
  extra?: (device: Device) => ComponentChildren;
}) {
  if (props.devices.length === 0)
    return (
      <Empty title="No device yet">
        Install the app on a phone or computer and sign in there with a code.
      </Empty>
    );
  return (
    <ul class="rows">
      {props.devices.map((device) => (
        <li key={device.device_id}>
          <div class="device-row">
            <span class="row">
              <span class="device-name">{device.model ?? device.device_id}</span>
              <Badge tone={TONES[device.state.code] ?? 'warn'}>{words(device.state.code)}</Badge>
            </span>
            <span>{device.state.what}</span>
            <span class="quiet small">
              {device.state.todo}
              {device.state.detail !== null && ` (${device.state.detail})`}
            </span>
          </div>
          {props.extra?.(device)}
        </li>
      ))}
    </ul>
  );
}
