import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { useLoad } from '../api/use-load.js';
import { Button } from '../parts/buttons.js';
import { Confirm } from '../parts/dialog.js';
import { Time } from '../parts/figures.js';
import { Card, PageHead } from '../parts/layout.js';
import { Show } from '../parts/states.js';
import { DeviceList } from './device-list.js';

/** Every device: what it is, where it is, why it earns or not; removing one. */
export default function Devices() {
  const devices = useLoad((api, signal) => ask(api.GET('/api/user/devices', { signal })));
  const [leaving, setLeaving] = useState<string>();
  const remove = useAct(
    (api, id: string) => ask(api.DELETE('/api/user/devices/{id}', { params: { path: { id } } })),
    { done: 'Removed. It can sign in again at any time.', quiet: true },
  );
  return (
    <>
      <PageHead title="Devices" lead="Each installation of the app, and why it earns or not.">
        <Button onClick={devices.reload} busy={devices.loading}>
          Look again
        </Button>
      </PageHead>
      <Card>
        <Show of={devices}>
          {({ items }) => (
            <DeviceList
              devices={items}
              extra={(device) => (
                <div class="device-row">
                  <span class="quiet small">
                    {device.os} · version {device.client_version}
                  </span>
                  <span class="quiet small">
                    {device.ip ?? 'no address yet'}
                    {device.country !== null && ` · ${device.country}`} · seen{' '}
                    <Time at={device.last_seen_at} />
                  </span>
                  <span>
                    <Button
                      label={`Remove ${device.model ?? device.device_id}`}
                      onClick={() => setLeaving(device.device_id)}
                    >
                      Remove
                    </Button>
                  </span>
                </div>
              )}
            />
          )}
        </Show>
      </Card>
      {leaving !== undefined && (
        <Confirm
          title="Remove this device?"
          action="Remove"
          danger
          busy={remove.busy}
          error={remove.error}
          onClose={() => setLeaving(undefined)}
          onConfirm={() =>
            void remove.run(leaving).then((answer) => {
              if (answer === undefined) return;
              setLeaving(undefined);
              devices.reload();
            })
          }
        >
          <p>It stops sharing at once, and its key is no longer good. What it earned stays yours.</p>
        </Confirm>
      )}
    </>
  );
}
