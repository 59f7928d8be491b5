import { existsSync, readFileSync } from 'node:fs';
import t from 'tap';
import { describeMetrics } from '../../deploy/observe/metric-table.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { hasProgram } from '../helpers/programs.js';
import { promtool, RULE_FILES, RULES_FOLDER, recordedIn, ruleText, seriesIn } from '../helpers/prometheus.js';

const RUNBOOK = 'deploy/RUNBOOK-ALERTS.md';
/** Files of alerts, each with tests; what `recording` records is asked for in theirs. */
const ALERT_FILES = RULE_FILES.filter((file) => file !== 'recording');
const recorded = recordedIn(ruleText('recording'));

/** What the two processes expose; a histogram by the names of its series. */
const exposed = new Set(
  describeMetrics().flatMap(({ name, type }) =>
    type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
  ),
);

const alertsIn = (text: string) =>
  text
    .split(/^ +- alert: /m)
    .slice(1)
    .map((alert) => ({ name: alert.split('\n')[0] as string, text: alert }));

t.test('every metric that a rule names is exposed', async (t) => {
  for (const file of RULE_FILES) {
    const named = seriesIn(ruleText(file));
    t.ok(named.size > 4, `${file}: ${named.size} series are named`);
    for (const name of named) t.ok(exposed.has(name) || recorded.has(name), `${file}: ${name}`);
  }
  for (const file of ALERT_FILES)
    for (const name of seriesIn(ruleText(`${file}.test`)))
      t.ok(exposed.has(name) || recorded.has(name), `${name}, in the tests of ${file}`);
  t.ok(seriesIn(ruleText('money')).size > 15);
});

t.test('each alert says what it is and what to do, has a place in the runbook, and is tried', async (t) => {
  const names: string[] = [];
  const runbook = readFileSync(projectPath(RUNBOOK), 'utf8');
  for (const file of ALERT_FILES) {
    const tests = ruleText(`${file}.test`);
    for (const { name, text } of alertsIn(ruleText(file))) {
      names.push(name);
      t.match(text, /^ +summary: \S/m, `${name} has a summary`);
      t.match(text, /^ +action: (>-\n +)?\S/m, `${name} says what to do`);
      t.match(text, /severity: (critical|warning)/, `${name} has a severity`);
      t.match(
        text,
        new RegExp(`^ +runbook: ${RUNBOOK}#${name.toLowerCase()}$`, 'm'),
        `${name} names its entry`,
      );
      t.match(runbook, new RegExp(`^### ${name}\n\n\\S`, 'm'), `${name} has an entry`);
      t.match(
        tests,
        new RegExp(`alertname="${name}"|eval_time: 12m\n +alertname: ${name}\n`),
        `${name} is seen firing`,
      );
      t.match(tests, new RegExp(`alertname: ${name}, exp_alerts: \\[\\]`), `${name} is seen not firing`);
      // NaN, a figure that is not known, is not equal to anything.
      t.notMatch(text.split('annotations:')[0], /!= *0/, `${name} does not fire on what is not known`);
    }
  }
  t.ok(names.length >= 40, `${names.length} alerts`);
  t.equal(new Set(names).size, names.length, 'each name once');
  const entries = [...runbook.matchAll(/^### (\S+)$/gm)].map(([, name]) => name);
  t.same(entries.toSorted(), names.toSorted(), 'the runbook has no others');
});

t.test('prometheus.yml reads every file of rules', async (t) => {
  const config = readFileSync(projectPath('deploy/prometheus/prometheus.yml'), 'utf8');
  const read = [...config.matchAll(/^ +- rules\/(\S+)\.yml$/gm)].map(([, name]) => name as string);
  t.same(read, [...RULE_FILES]);
  for (const file of read) t.ok(existsSync(`${RULES_FOLDER}/${file}.yml`));
});

t.test('promtool tries the rules', async (t) => {
  if (!(await hasProgram(t, 'promtool'))) return;
  for (const file of ALERT_FILES) {
    const { code, out, err } = await promtool('test', 'rules', `${file}.test.yml`);
    t.equal(code, 0, out + err);
  }
  const checked = await promtool('check', 'rules', ...RULE_FILES.map((file) => `${file}.yml`));
  t.equal(checked.out.match(/SUCCESS: \d+ rules found/g)?.length, RULE_FILES.length, checked.out);
  const config = await promtool('check', 'config', '../prometheus.yml');
  t.equal(config.code, 0, config.out + config.err);
});
