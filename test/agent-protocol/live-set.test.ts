import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { LiveMap, LiveSet, type Place } from '../../agent-protocol/live-set.js';
import { Random } from '../sim/random.js';

t.test('a LiveSet is the same as an array that is searched', (t) => {
  const random = new Random(1);
  const set = new LiveSet<number>();
  let there: { item: number; place: Place<number> }[] = [];
  const gone: Place<number>[] = [];
  for (let step = 0; step < 20_000; step++) {
    if (random.chance(0.5 + 0.3 * Math.sin(step / 500))) there.push({ item: step, place: set.add(step) });
    else if (there.length > 0) {
      const { place } = there.splice(random.below(there.length), 1)[0] as (typeof there)[number];
      if (!set.remove(place)) t.fail('was there');
      gone.push(place);
    }
    if (gone.length > 0 && set.remove(gone[random.below(gone.length)] as Place<number>)) t.fail('was gone');
    if (set.size !== there.length) t.fail(`${set.size}, not ${there.length}`);
  }
  const items = (of: Iterable<number>) => [...of].sort((a, b) => a - b);
  t.same(items(set), items(there.map(({ item }) => item)));
  for (const { place } of there) set.remove(place);
  t.same([...set], []);
  there = [];
  t.end();
});

t.test('what stays is given while others come and go', (t) => {
  const random = new Random(2);
  for (let round = 0; round < 200; round++) {
    const set = new LiveSet<number>();
    const places = Array.from({ length: 30 }, (_, n) => set.add(n));
    const leaves = new Set(places.filter(() => random.chance(0.4)).map(({ item }) => item));
    const seen = new Set<number>();
    for (const item of set) {
      seen.add(item);
      if (random.chance(0.3)) set.add(100);
      for (const place of places) if (leaves.has(place.item) && random.chance(0.1)) set.remove(place);
    }
    const missed = places.filter(({ item }) => !leaves.has(item) && !seen.has(item));
    if (missed.length > 0) t.fail(`${missed.map(({ item }) => item)} missed in round ${round}`);
  }
  t.pass('nothing missed');
  t.end();
});

t.test('a LiveMap is the same as a Map', (t) => {
  const random = new Random(3);
  const map = new Map<number, string>();
  const live = new LiveMap<number, string>();
  for (let step = 0; step < 20_000; step++) {
    const key = random.below(200);
    if (random.chance(0.5)) {
      map.set(key, `${step}`);
      live.set(key, `${step}`);
    } else {
      map.delete(key);
      live.delete(key);
    }
    if (live.get(key) !== map.get(key) || live.size !== map.size) t.fail(`differs at step ${step}`);
  }
  t.same(live.values(), [...map.values()]);
  t.end();
});

/** Bytes that reach the old generation while items of 4 KB come and go, 64 at a time. */
function bytesGrownOld(add: (item: object) => () => void): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (options?: { type: 'minor' }) => void;
  const oldBytes = () =>
    getHeapSpaceStatistics().find(({ space_name }) => space_name === 'old_space')?.space_used_size as number;
  const queue: (() => void)[] = [];
  collect();
  const before = oldBytes();
  for (let n = 0; n < 20_000; n++) {
    queue.push(add({ ballast: Array.from({ length: 500 }, (_, i) => i / 2) }));
    if (queue.length > 64) (queue.shift() as () => void)();
    if (n % 500 === 0) collect({ type: 'minor' });
  }
  return oldBytes() - before;
}

t.test('what was taken out does not outlive the young generation', (t) => {
  const liveSet = new LiveSet<object>();
  const ofSet = bytesGrownOld((item) => {
    const place = liveSet.add(item);
    return () => liveSet.remove(place);
  });
  const liveMap = new LiveMap<number, object>();
  let key = 0;
  const ofMap = bytesGrownOld((item) => {
    const own = key++;
    liveMap.set(own, item);
    return () => liveMap.delete(own);
  });
  const plain = new Set<object>();
  const ofPlain = bytesGrownOld((item) => {
    plain.add(item);
    return () => plain.delete(item);
  });
  const mb = (bytes: number) => (bytes / 1e6).toFixed(1);
  t.comment(`MB grown old: LiveSet ${mb(ofSet)}, LiveMap ${mb(ofMap)}, a Set ${mb(ofPlain)}`);
  t.ok(ofSet < 4e6 && ofMap < 4e6, 'what was there at a collection, at most');
  t.end();
});
