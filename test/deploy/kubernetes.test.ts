/** deploy/kubernetes, by Kubernetes's own schemas, and what they can not know. */
import { readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { parse, parseAllDocuments } from 'yaml';
import { controlPlaneSettings } from '../../control-plane/config.js';
import { gatewaySettings } from '../../gateway/config.js';
import { projectPath } from '../../gateway/runtime/project-path.js';
import { type Manifest, problemsOfManifest } from '../helpers/kubernetes.js';

interface Container {
  name: string;
  image: string;
  args: string[];
  env?: { name: string; value?: string }[];
  securityContext?: Record<string, unknown>;
  volumeMounts?: { name: string; mountPath: string }[];
  lifecycle?: { preStop?: { exec?: { command: string[] } } };
  ports?: { name: string; containerPort: number }[];
}
interface PodSpec {
  securityContext?: Record<string, unknown>;
  automountServiceAccountToken?: boolean;
  terminationGracePeriodSeconds?: number;
  containers: Container[];
}
interface Loaded extends Manifest {
  metadata: { name: string };
  data?: Record<string, string>;
  stringData?: Record<string, string>;
  // Judged by the schemas before anything is read from it
  spec: {
    template: { metadata: { labels: Record<string, string> }; spec: PodSpec };
    selector: Record<string, string> & { matchLabels: Record<string, string> };
    ports: { port: number; targetPort: string }[];
    podSelector: { matchLabels?: Record<string, string> };
    metrics: { pods: { metric: { name: string } } }[];
    scaleTargetRef: Manifest & { name: string };
  };
}

const folder = projectPath('deploy/kubernetes');
const read = (name: string) =>
  parseAllDocuments(readFileSync(`${folder}/${name}`, 'utf8')).map((document) => document.toJS() as Loaded);
const kustomization = parse(readFileSync(`${folder}/kustomization.yaml`, 'utf8')) as { resources: string[] };
const files = readdirSync(folder).filter((name) => name.endsWith('.yaml') && name !== 'kustomization.yaml');
const all = files.flatMap(read);
const find = (kind: string, name: string) => {
  const found = all.find((manifest) => manifest.kind === kind && manifest.metadata.name === name);
  if (!found) throw new Error(`no ${kind} ${name}`);
  return found;
};
const workloads = [
  find('StatefulSet', 'gateway'),
  find('Deployment', 'control-plane'),
  find('Job', 'migrate'),
];
const podOf = (manifest: Loaded) => manifest.spec.template.spec;
const containerOf = (manifest: Loaded) => podOf(manifest).containers[0] as Container;
const includes = (labels: Record<string, string>, selector: Record<string, string>) =>
  Object.entries(selector).every(([key, value]) => labels[key] === value);

t.test('every manifest is one', async (t) => {
  t.same(
    files.toSorted(),
    [...kustomization.resources, 'secrets.example.yaml'].toSorted(),
    'everything belongs to the kustomization, but for the example of secrets',
  );
  for (const manifest of all)
    t.same(await problemsOfManifest(manifest), [], `${manifest.kind} ${manifest.metadata.name}`);
});

t.test('the check finds what is wrong', async (t) => {
  const good = find('StatefulSet', 'gateway');
  const changed = (change: (copy: Loaded) => void) => {
    const copy = structuredClone(good);
    change(copy);
    return problemsOfManifest(copy);
  };
  t.same(await changed((copy) => Object.assign(containerOf(copy), { imagePullPolcy: 'Always' })), [
    'unknown field /spec/template/spec/containers/0/imagePullPolcy',
  ]);
  t.match(await changed((copy) => Object.assign(copy.spec, { replicas: 'two' })), [
    /replicas must be integer/,
  ]);
  t.match(await changed((copy) => Object.assign(copy, { apiVersion: 'apps/v9' })), [/no such API/]);
  t.match(await changed((copy) => Object.assign(copy, { kind: 'StatefulSets' })), [/no such kind/]);
  t.same(await changed((copy) => Object.assign(copy, { sepc: {} })), ['unknown field /sepc']);
});

t.test('every process runs without rights', async (t) => {
  for (const workload of workloads) {
    const pod = podOf(workload);
    t.match(
      pod,
      {
        automountServiceAccountToken: false,
        securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
      },
      workload.metadata.name,
    );
    for (const container of pod.containers)
      t.match(container.securityContext, {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
  }
});

t.test('settings are settings, secrets are mounted where they are looked for', async (t) => {
  for (const [name, table] of [
    ['gateway', gatewaySettings],
    ['control-plane', controlPlaneSettings],
  ] as const) {
    const known = Object.values(table).flatMap((setting) =>
      (setting as { secret?: true }).secret ? [setting.name, `${setting.name}_FILE`] : [setting.name],
    );
    const secrets = Object.keys(find('Secret', name).stringData ?? {});
    const files: string[] = [];
    for (const [variable, value] of Object.entries(find('ConfigMap', name).data ?? {})) {
      t.ok(variable === 'NODE_ENV' || known.includes(variable), `${name}: ${variable}`);
      if (variable.endsWith('_FILE')) files.push(value.replace('/run/secrets/traffic-share/', ''));
    }
    t.same(files.toSorted(), secrets.toSorted(), `${name}: secrets`);
  }
  for (const workload of workloads)
    t.ok(
      containerOf(workload).volumeMounts?.some(({ mountPath }) => mountPath === '/run/secrets/traffic-share'),
      workload.metadata.name,
    );
});

t.test('gateways reach each other: address, port, certificate, policy', async (t) => {
  const gateway = find('StatefulSet', 'gateway');
  const { ports, env, volumeMounts } = containerOf(gateway);
  const settings = find('ConfigMap', 'gateway').data ?? {};
  const port = Number(settings.TS_GATEWAY_LINK_PORT);
  t.match(
    ports?.find(({ name }) => name === 'link'),
    { containerPort: port },
  );
  t.match(find('Service', 'gateway-pods').spec.ports, [{}, { port, targetPort: 'link' }]);
  // What Kubernetes fills in has to stand before
  const names = env?.map(({ name }) => name) ?? [];
  t.ok(names.indexOf('TS_GATEWAY_ID') < names.indexOf('TS_GATEWAY_LINK_ADDRESS'));
  t.match(
    env?.find(({ name }) => name === 'TS_GATEWAY_LINK_ADDRESS'),
    { value: `$(TS_GATEWAY_ID).${(gateway.spec as unknown as { serviceName: string }).serviceName}` },
  );
  const mount = volumeMounts?.find(({ name }) => name === 'links')?.mountPath;
  const inSecret = Object.keys(find('Secret', 'gateway-links').stringData ?? {});
  for (const part of ['CERT', 'KEY', 'CA']) {
    const [folder, file] = (settings[`TS_GATEWAY_LINK_TLS_${part}`] ?? '').split(/\/(?=[^/]+$)/);
    t.equal(folder, mount, part);
    t.ok(inSecret.includes(file ?? ''), `${part}: ${file}`);
  }
  const { ingress, egress } = find('NetworkPolicy', 'gateway').spec as unknown as Record<string, unknown[]>;
  const gateways = [{ podSelector: { matchLabels: { 'app.kubernetes.io/component': 'gateway' } } }];
  t.match(ingress?.at(-1), { from: gateways, ports: [{ port: 'link' }] });
  t.match(egress?.at(-1), { to: gateways, ports: [{ port }] });
});

t.test(
  'the component for UDP patches the gateways that there are, with settings that there are',
  async (t) => {
    const { patches } = parse(readFileSync(`${folder}/udp/kustomization.yaml`, 'utf8')) as {
      patches: { target: { kind: string; name: string }; patch: string }[];
    };
    for (const { target, patch } of patches) {
      const patched = structuredClone(find(target.kind, target.name));
      const { spec } = (parse(patch) as Loaded).spec.template;
      const [own, added] = [containerOf(patched), spec.containers[0] as Container];
      t.equal(added.name, own.name);
      for (const { name } of added.env ?? [])
        t.ok(
          Object.values(gatewaySettings).some((setting) => setting.name === name),
          name,
        );
      Object.assign(podOf(patched), {
        ...spec,
        containers: [{ ...own, env: [...(own.env ?? []), ...(added.env ?? [])] }],
      });
      t.same(await problemsOfManifest(patched), []);
    }
  },
);

t.test('a gateway has time to drain, after it was taken from the service', async (t) => {
  const pod = podOf(find('StatefulSet', 'gateway'));
  const [program, seconds] = pod.containers[0]?.lifecycle?.preStop?.exec?.command ?? [];
  t.equal(program, 'sleep');
  const drainS = Number(find('ConfigMap', 'gateway').data?.TS_DRAIN_MS) / 1_000;
  // The process gives up 10 s after TS_DRAIN_MS (gateway/main.ts)
  t.ok((pod.terminationGracePeriodSeconds ?? 0) > Number(seconds) + drainS + 10);
  t.ok(containerOf(find('StatefulSet', 'gateway')).volumeMounts?.some(({ name }) => name === 'data'));
});

t.test('what selects pods selects some, by ports that they have', async (t) => {
  const labels = (workload: Loaded) => workload.spec.template.metadata.labels;
  for (const manifest of all.filter(({ kind }) => kind === 'Service')) {
    const pods = workloads.filter((workload) => includes(labels(workload), manifest.spec.selector));
    t.equal(pods.length, 1, `Service ${manifest.metadata.name}`);
    const ports = pods.flatMap((workload) => containerOf(workload).ports?.map(({ name }) => name));
    for (const { targetPort } of manifest.spec.ports) t.ok(ports.includes(targetPort), targetPort);
  }
  for (const manifest of all.filter(({ kind }) => kind === 'PodDisruptionBudget'))
    t.ok(
      workloads.some((workload) => includes(labels(workload), manifest.spec.selector.matchLabels)),
      `PodDisruptionBudget ${manifest.metadata.name}`,
    );
  const policies = all.filter(({ kind }) => kind === 'NetworkPolicy');
  t.ok(
    policies.some(({ spec }) => spec.podSelector.matchLabels === undefined),
    'nothing but what is named',
  );
  for (const workload of workloads)
    t.ok(
      policies.some(
        ({ spec: { podSelector } }) =>
          podSelector.matchLabels && includes(labels(workload), podSelector.matchLabels),
      ),
      `NetworkPolicy for ${workload.metadata.name}`,
    );
});

t.test('gateways grow by a metric that they have', async (t) => {
  const { spec } = find('HorizontalPodAutoscaler', 'gateway');
  t.match(spec.scaleTargetRef, { kind: 'StatefulSet', name: 'gateway' });
  const metrics = readFileSync(projectPath('gateway/metrics.ts'), 'utf8');
  for (const { pods } of spec.metrics) t.ok(metrics.includes(`'${pods.metric.name}'`), pods.metric.name);
});
