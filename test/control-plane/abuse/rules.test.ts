import t from 'tap';
import {
  type BuyerFacts,
  judgeBuyer,
  judgeTarget,
  type TargetFacts,
  type Thresholds,
} from '../../../control-plane/abuse/rules.js';

const T: Thresholds = {
  fanOutHostsMin: 100,
  failedDialsMin: 50,
  failedDialsPercentMin: 50,
  failedTargetsMin: 20,
  blockedAttemptsMin: 30,
  targetStreamsMin: 1_000,
  targetDevicesMin: 10,
  targetBuyersMin: 3,
  targetBytesPerStreamMax: 5_000,
};
const OFF = { ...T, fanOutHostsMin: 0, failedDialsMin: 0, blockedAttemptsMin: 0, targetStreamsMin: 0 };

const buyer = (facts: Partial<BuyerFacts>): BuyerFacts => ({
  buyerId: 'b',
  streams: 0,
  hosts: 0,
  failed: 0,
  failedTargets: 0,
  blocked: 0,
  byCode: {},
  failedSamples: ['192.0.2.1:443'],
  blockedSamples: ['192.0.2.2:25'],
  ...facts,
});
const target = (facts: Partial<TargetFacts>): TargetFacts => ({
  host: 'login.example.com',
  buyerId: 'b',
  buyers: 1,
  devices: 1,
  streams: 0,
  bytes: 0,
  topBuyerIds: ['b', 'c'],
  ...facts,
});
const ALL = buyer({ streams: 60, hosts: 100, failed: 60, failedTargets: 20, blocked: 30 });

t.test('each rule finds from its threshold on, not below', async (t) => {
  const rules = (facts: Partial<BuyerFacts>, thresholds = T) =>
    judgeBuyer(buyer({ ...ALL, ...facts }), thresholds).map(({ rule }) => rule);
  t.same(rules({}), ['fan_out', 'failed_dials', 'blocked_targets']);
  t.same(rules({ hosts: 99 }), ['failed_dials', 'blocked_targets']);
  t.same(rules({ failed: 49, streams: 0 }), ['fan_out', 'blocked_targets'], 'too few failed');
  t.same(rules({ streams: 61 }), ['fan_out', 'blocked_targets'], 'most worked');
  t.same(
    rules({ failedTargets: 19 }),
    ['fan_out', 'blocked_targets'],
    'one target again and again is no scan',
  );
  t.same(rules({ blocked: 29 }), ['fan_out', 'failed_dials']);
  t.same(rules({}, OFF), [], '0 turns a rule off');
  t.same(judgeBuyer(buyer({}), T), [], 'who does nothing is not suspicious');

  const ofTarget = (facts: Partial<TargetFacts>, thresholds = T) =>
    judgeTarget(target({ streams: 1_000, bytes: 5_000_000, devices: 10, buyers: 3, ...facts }), thresholds);
  t.match(ofTarget({}), [{ rule: 'target_by_devices', subject: 'b login.example.com', buyerId: 'b' }]);
  t.match(ofTarget({ buyerId: null }), [
    {
      rule: 'target_by_buyers',
      subject: 'login.example.com',
      buyerId: null,
      measured: 1_000,
      evidence: { bytes_per_connection: 5_000, buyer_ids: ['b', 'c'] },
    },
  ]);
  t.same(ofTarget({ streams: 999 }), []);
  t.same(ofTarget({ devices: 9 }), []);
  t.same(ofTarget({ buyerId: null, buyers: 2 }), []);
  t.same(ofTarget({ bytes: 5_001_000 }), [], 'who fetches much uses the site');
  t.same(ofTarget({}, OFF), []);
});

t.test('the evidence names what the rule is about', async (t) => {
  const [fanOut, failed, blocked] = judgeBuyer(ALL, T);
  t.match(fanOut, { measured: 100, threshold: 100, evidence: { connections: 60, hosts: 100, samples: [] } });
  t.match(failed, {
    measured: 60,
    threshold: 50,
    evidence: { failed_targets: 20, samples: ['192.0.2.1:443'] },
  });
  t.match(blocked, { measured: 30, threshold: 30, evidence: { samples: ['192.0.2.2:25'] } });
});
