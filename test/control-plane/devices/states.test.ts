import t from 'tap';
import { DEVICE_STATES, type DeviceFacts, deviceState } from '../../../control-plane/devices/states.js';
import { LANGUAGES } from '../../../control-plane/users/users.js';

const sharing = (streams = 0) => ({ status: 'sharing' as const, streams });
const idle: DeviceFacts = {
  ownerStatus: 'active',
  consentCurrent: true,
  clientOutdated: false,
  tunnel: sharing(),
  packageHolder: null,
  country: 'DE',
  refusal: null,
  capReached: null,
};
const refusal = { code: 'vpn_detected', rule: 'AS9009 M247' };

t.test('why a device earns or not', async (t) => {
  const cases: [name: string, facts: Partial<DeviceFacts>, code: string, detail: string | null][] = [
    ['ready', {}, 'idle', 'DE'],
    ['a stream', { tunnel: sharing(1) }, 'earning', null],
    ['a package', { packageHolder: 'this_session' }, 'earning', null],
    ['the package is another’s', { packageHolder: 'other_session' }, 'address_in_use', null],
    ['a stream wins over that', { packageHolder: 'other_session', tunnel: sharing(1) }, 'earning', null],
    ['paused', { tunnel: { status: 'paused', streams: 0 } }, 'paused', null],
    ['by the cap', { tunnel: { status: 'paused', streams: 0 }, capReached: 'day' }, 'cap_reached', 'day'],
    ['a cap that does not pause', { tunnel: sharing(2), capReached: 'month' }, 'earning', null],
    ['drained', { tunnel: { status: 'draining', streams: 3 } }, 'moving', null],
    ['no tunnel', { tunnel: null }, 'offline', null],
    ['refused', { tunnel: null, refusal }, 'network_refused', 'vpn_detected: AS9009 M247'],
    ['refused once, but it shares', { refusal }, 'idle', 'DE'],
    ['outdated', { tunnel: null, clientOutdated: true, refusal }, 'client_outdated', null],
    ['no consent', { consentCurrent: false, tunnel: sharing(1) }, 'consent_missing', null],
    ['banned', { ownerStatus: 'banned', consentCurrent: false }, 'banned', null],
    ['live state away', { tunnel: 'unknown' }, 'unknown', null],
  ];
  for (const [name, facts, code, detail] of cases)
    t.same(deviceState({ ...idle, ...facts }), { code, detail }, name);
  const reached = new Set(cases.map(([, , code]) => code));
  for (const [code, state] of Object.entries(DEVICE_STATES)) {
    t.ok(reached.has(code), `${code} can be`);
    t.equal(state.earns, code === 'earning');
    for (const language of LANGUAGES)
      t.ok(state[language].what && state[language].todo, `${code} says what to do in ${language}`);
  }
});
