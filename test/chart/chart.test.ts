import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { parse as parseYaml } from 'yaml';
import * as z from 'zod';
import { parseAgentConfig } from '../../src/agent/config.ts';
import { chartFolder } from '../../src/cli/helm.ts';
import { etcdArguments } from '../../src/clustermesh/etcd-server.ts';
import { parseRemoteUsers } from '../../src/clustermesh/remote-users.ts';
import { parseOperatorConfig } from '../../src/operator/config.ts';
import { packageRoot } from '../../src/package-root.ts';
import { find, helmPath, meshed, plain, type Rendered, refusal, render, renderText } from './rendering.ts';

test('helm lint has nothing to say', async () => {
  const { stdout } = await promisify(execFile)(await helmPath(), ['lint', '--strict', chartFolder]);
  assert.match(stdout, /1 chart\(s\) linted, 0 chart\(s\) failed/);
});

test('chart, image and package have one version', () => {
  const chart = parseYaml(readFileSync(join(chartFolder, 'Chart.yaml'), 'utf8'));
  const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8'));
  assert.deepEqual([chart.version, chart.appVersion], [version, version]);
});

test('a wrong value is refused by its name', async t => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['cluster.nmae=us', /: cluster\.nmae: there is no such value$/],
    ['hubble.enabled=true', /: hubble: there is no such value$/],
    ['cluster.id=one', /: cluster\.id: got string, want integer$/],
    ['cluster.id=512', /: cluster\.id: maximum: got 512, want 511$/],
    ['cluster.id=256', /^cluster\.id: found 256, expected 0 to 255 \(clustermesh\.maxConnectedClusters\)$/],
    ['cluster.name=US', /: cluster\.name: 'US' does not match pattern/],
    ['cluster.name=default', /^cluster\.name: found default, expected a name of its own/],
    ['ipam.mode=cluster-pool', /: ipam\.mode: value must be 'kubernetes'$/],
    ['routingMode=direct', /: routingMode: value must be one of 'tunnel', 'native', 'hybrid'$/],
    ['tunnelProtocol=geneve', /: tunnelProtocol: value must be 'vxlan'$/],
    ['tunnelUnpack=kernel', /: tunnelUnpack: value must be one of 'program', 'device'$/],
    ['socketLB.enabled=true', /: socketLB\.enabled: there is no such value$/],
    ['kubeProxyReplacement=false', /: kubeProxyReplacement: value must be true$/],
    ['ipv6.enabled=maybe', /: ipv6\.enabled: got string, want boolean$/],
    [
      'ipv4.enabled=false',
      /^ipv4\.enabled: found false, expected true, because ipv6\.enabled is false, too$/,
    ],
    ['enableIPv6Masquerade=no', /: enableIPv6Masquerade: got string, want boolean$/],
    ['loadBalancer.mode=annotation', /: loadBalancer\.mode: value must be one of 'snat', 'dsr', 'hybrid'$/],
    [
      'loadBalancer.mode=dsr',
      /^loadBalancer\.mode: found dsr, expected snat, because routingMode is tunnel: the option/,
    ],
    ['loadBalancer.dsrDispatch=geneve', /^loadBalancer\.dsrDispatch: found geneve, expected opt: /],
    ['MTU=100', /MTU: minimum: got 100, want 576$/],
    ['nodePort.range=30000-32767', /: nodePort\.range: '30000-32767' does not match pattern/],
    ['nodePort.range=32767\\,30000', /^nodePort\.range: found 32767,30000, expected the lower port first$/],
    ['k8sServicePort=https', /k8sServicePort: /],
    ['k8sServiceHost=https://172.18.1.2', /: k8sServiceHost: /],
    [
      'clustermesh.maxConnectedClusters=300',
      /: clustermesh\.maxConnectedClusters: value must be one of 255, 511$/,
    ],
    [
      'clustermesh.apiserver.service.type=Ingress',
      /: clustermesh\.apiserver\.service\.type: value must be one of/,
    ],
    [
      'clustermesh.config.clusters[0].name=eu',
      /^clustermesh\.config\.clusters: eu has neither ips nor address$/,
    ],
    ['clustermesh.config.clusters[0].ips={eu}', /clustermesh\.config\.clusters\.0: missing property 'name'/],
    [
      'clustermesh.config.clusters.eu.prot=32379',
      /clustermesh\.config\.clusters\.eu\.prot: there is no such value$/,
    ],
    [
      'clustermesh.apiserver.tls.authMode=shared',
      /: clustermesh\.apiserver\.tls\.authMode: value must be one of/,
    ],
    [
      'clustermesh.apiserver.kvstoremesh.enabled=true,clustermesh.apiserver.kvstoremesh.healthPort=9880',
      /^clustermesh\.apiserver\.kvstoremesh\.healthPort: found 9880, expected another port than/,
    ],
    ['tls.ca.cert=QUJD', /^tls\.ca: found only one of cert and key, expected both or none$/],
    ['healthCheckInterval=300', /: healthCheckInterval: (got number, want string|'300' does not match)/],
    ['healthCheckICMPFailureThreshold=1', /: healthCheckICMPFailureThreshold: minimum: got 1, want 2$/],
    ['l2announcements.leaseDuration=fast', /: l2announcements\.leaseDuration: 'fast' does not match pattern/],
    ['operator.replicas=0', /: operator\.replicas: minimum: got 0, want 1$/],
    ['image.digest=latest', /: image\.digest: /],
  ];
  for (const [set, expected] of cases)
    await t.test(set, async () => assert.match(await refusal([...plain, set]), expected));
});

test('a mesh needs an id', async () => {
  assert.match(
    await refusal(['k8sServiceHost=172.18.1.2', 'clustermesh.useAPIServer=true']),
    /^cluster\.id: found 0, expected 1 to 255, because clustermesh is on$/,
  );
});

test('without a cluster to ask, the API server must be named', async () => {
  assert.match(
    await refusal(['cluster.name=us', 'cluster.id=1']),
    /^k8sServiceHost: auto needs .*cluster-info/,
  );
});

test('the agents understand the ConfigMap', async () => {
  const { data } = z
    .object({ data: z.record(z.string(), z.string()) })
    .parse(find(await render(meshed), 'ConfigMap', 'isthmus-config'));
  const config = parseAgentConfig(data);
  assert.equal(config['cluster-name'], 'us');
  assert.equal(config['cluster-id'], 1);
  assert.deepEqual(config['node-port-range'], { first: 30000, last: 32767 });
  assert.deepEqual(
    [
      config['enable-health-checking'],
      config['health-check-interval'],
      config['health-check-icmp-failure-threshold'],
      config['health-check-hold'],
    ],
    [true, 300, 5, 2000],
  );
  assert.equal(config['clustermesh-heartbeat-timeout'], 120_000);
});

test('L2 announcement is an option, with the rights it needs only then', async () => {
  const on = await render([
    ...plain,
    'l2announcements.enabled=true',
    'l2announcements.leaseDuration=3s',
    'l2announcements.leaseRenewDeadline=1s',
    'l2announcements.leaseRetryPeriod=200ms',
  ]);
  const { data } = z
    .object({ data: z.record(z.string(), z.string()) })
    .parse(find(on, 'ConfigMap', 'isthmus-config'));
  const config = parseAgentConfig(data);
  assert.deepEqual(
    [
      config['enable-l2-announcements'],
      config['l2-announcements-lease-duration'],
      config['l2-announcements-renew-deadline'],
      config['l2-announcements-retry-period'],
    ],
    [true, 3000, 1000, 200],
  );
  const roles = (all: readonly Rendered[]): string[] =>
    all.flatMap(each =>
      each.kind === 'Role' && each.metadata.name === 'isthmus' ? [each.metadata.name] : [],
    );
  assert.deepEqual([roles(on), roles(await render(plain))], [['isthmus'], []]);
});

test('the Multi-Cluster Services API is an option, with the rights it needs only then', async () => {
  const mcsApi = 'clustermesh.mcsapi.enabled=true';
  const coredns = 'clustermesh.mcsapi.corednsAutoConfigure.enabled=true';
  const [off, on, all] = await Promise.all([
    render(meshed),
    render([...meshed, mcsApi]),
    render([...meshed, mcsApi, coredns]),
  ]);
  const configOf = (objects: readonly Rendered[]) =>
    parseOperatorConfig(
      z.object({ data: z.record(z.string(), z.string()) }).parse(find(objects, 'ConfigMap', 'isthmus-config'))
        .data,
    );
  const settings = [off, on, all].map(objects => {
    const config = configOf(objects);
    return [
      config['clustermesh-enable-endpoint-sync'],
      config['clustermesh-enable-mcs-api'],
      config['clustermesh-mcs-api-install-crds'],
      config['clustermesh-mcs-api-configure-coredns'],
    ];
  });
  assert.deepEqual(settings, [
    [true, false, true, false],
    [true, true, true, false],
    [true, true, true, true],
  ]);
  const groups = (objects: readonly Rendered[], role: string): boolean =>
    rulesOf(find(objects, 'ClusterRole', role)).some(rule =>
      rule.apiGroups.includes('multicluster.x-k8s.io'),
    );
  for (const role of ['isthmus-operator', 'clustermesh-apiserver'])
    assert.deepEqual([groups(off, role), groups(on, role)], [false, true], role);
  const named = (objects: readonly Rendered[]): string[] =>
    objects
      .filter(each => /coredns/.test(each.metadata.name))
      .map(each => `${each.kind} ${each.metadata.name}`);
  assert.deepEqual(named(on), []);
  assert.deepEqual(named(all), [
    'ClusterRole coredns-mcsapi',
    'ClusterRoleBinding coredns-mcsapi',
    'Role isthmus-operator-coredns',
    'RoleBinding isthmus-operator-coredns',
  ]);
  assert.match(
    await refusal([...meshed, coredns]),
    /^clustermesh\.mcsapi\.corednsAutoConfigure\.enabled: found true/,
  );
  assert.match(
    await refusal([...plain, mcsApi, 'cluster.id=0', 'cluster.name=default']),
    /^cluster\.id: found 0/,
  );
});

test('Helm makes no certificate and nothing random', async () => {
  const [first, second] = await Promise.all([renderText(meshed), renderText(meshed)]);
  assert.equal(first, second);
  assert.doesNotMatch(first, /PRIVATE KEY|BEGIN CERTIFICATE/);
  const secrets = (await render(meshed)).filter(each => each.kind === 'Secret');
  assert.deepEqual(
    secrets.map(each => [each.metadata.name, Object.keys(z.record(z.string(), z.string()).parse(each.data))]),
    [['cilium-clustermesh', ['eu']]],
  );
});

test('helm template | kubectl apply gets no Job that belongs before an uninstall', async () => {
  assert.deepEqual(
    (await render(meshed)).filter(each => each.kind === 'Job'),
    [],
  );
});

test('joining a mesh restarts no agent', async () => {
  const [before, after] = await Promise.all([render(plain), render(meshed)]);
  assert.deepEqual(find(after, 'DaemonSet', 'isthmus'), find(before, 'DaemonSet', 'isthmus'));
});

test('a changed setting restarts the agents, if asked for', async () => {
  const [before, after] = await Promise.all([render(plain), render([...plain, 'debug.enabled=true'])]);
  assert.notDeepEqual(find(after, 'DaemonSet', 'isthmus'), find(before, 'DaemonSet', 'isthmus'));
  const [kept, same] = await Promise.all([
    render([...plain, 'rollOutPods=false']),
    render([...plain, 'rollOutPods=false', 'debug.enabled=true']),
  ]);
  assert.deepEqual(find(same, 'DaemonSet', 'isthmus'), find(kept, 'DaemonSet', 'isthmus'));
});

test('agent and operator start before there is a pod network', async () => {
  const objects = await render(plain);
  for (const [kind, name] of [
    ['DaemonSet', 'isthmus'],
    ['Deployment', 'isthmus-operator'],
  ] as const) {
    const { spec, containers } = podOf(find(objects, kind, name));
    assert.equal(spec.hostNetwork, true, name);
    assert.deepEqual(spec.tolerations, [{ operator: 'Exists' }], name);
    const env = new Map(containers[0]!.env?.map(each => [each.name, each.value]));
    assert.equal(env.get('KUBERNETES_SERVICE_HOST'), '172.18.1.2', name);
    assert.equal(env.get('KUBERNETES_SERVICE_PORT'), '6443', name);
  }
});

test('only the agent is privileged; the others are nobody and may do nothing', async () => {
  const objects = await render([...meshed, 'clustermesh.apiserver.kvstoremesh.enabled=true']);
  const agent = podOf(find(objects, 'DaemonSet', 'isthmus'));
  assert.equal(agent.containers[0]!.securityContext?.privileged, true);
  for (const name of ['isthmus-operator', 'clustermesh-apiserver']) {
    const { spec, containers } = podOf(find(objects, 'Deployment', name));
    assert.deepEqual(
      { ...spec.securityContext, fsGroup: undefined },
      {
        runAsNonRoot: true,
        runAsUser: 65532,
        runAsGroup: 65532,
        seccompProfile: { type: 'RuntimeDefault' },
        fsGroup: undefined,
      },
      name,
    );
    for (const container of containers)
      assert.deepEqual(
        container.securityContext,
        { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
        `${name}/${container.name}`,
      );
  }
});

test('no daemon has a wildcard right, and secrets are read by name only', async () => {
  for (const role of (await render(meshed)).filter(each => /^(Cluster)?Role$/.test(each.kind))) {
    for (const rule of rulesOf(role)) {
      const all = [...rule.apiGroups, ...rule.resources, ...rule.verbs];
      assert.ok(!all.includes('*'), `${role.metadata.name} has a wildcard`);
      if (!rule.resources.includes('secrets')) continue;
      assert.equal(role.kind, 'Role', `${role.metadata.name} reads secrets of every namespace`);
      assert.ok(rule.resourceNames !== undefined || rule.verbs.join() === 'create', role.metadata.name);
    }
  }
});

test('a remote cluster becomes an etcd client configuration with all its addresses', async () => {
  const { data } = z
    .object({ data: z.object({ eu: z.string() }) })
    .parse(find(await render(meshed), 'Secret', 'cilium-clustermesh'));
  assert.deepEqual(parseYaml(Buffer.from(data.eu, 'base64').toString()), {
    endpoints: ['https://eu.mesh.cilium.io:32379'],
    'cilium-host-aliases': [{ hostname: 'eu.mesh.cilium.io', ips: ['172.18.2.2', '172.18.2.3'] }],
    'trusted-ca-file': '/var/lib/cilium/clustermesh/common-ca-bundle.crt',
    'cert-file': '/var/lib/cilium/clustermesh/common-etcd-client.crt',
    'key-file': '/var/lib/cilium/clustermesh/common-etcd-client.key',
  });
});

test('with the mirror agents read the copies in their own etcd, and the mirror alone each cluster; no agent restarts', async () => {
  const mirrored = [...meshed, 'clustermesh.apiserver.kvstoremesh.enabled=true'];
  const [direct, objects] = await Promise.all([render(meshed), render(mirrored)]);
  const fileOf = (of: readonly Rendered[], name: string): unknown => {
    const { data } = z.object({ data: z.object({ eu: z.string() }) }).parse(find(of, 'Secret', name));
    return parseYaml(Buffer.from(data.eu, 'base64').toString());
  };
  assert.deepEqual(fileOf(objects, 'cilium-clustermesh'), {
    endpoints: ['https://clustermesh-apiserver.kube-system.svc:2379'],
    'trusted-ca-file': '/var/lib/cilium/clustermesh/local-etcd-client-ca.crt',
    'cert-file': '/var/lib/cilium/clustermesh/local-etcd-client.crt',
    'key-file': '/var/lib/cilium/clustermesh/local-etcd-client.key',
  });
  assert.deepEqual(fileOf(objects, 'cilium-kvstoremesh'), fileOf(direct, 'cilium-clustermesh'));
  assert.deepEqual(find(objects, 'DaemonSet', 'isthmus'), find(direct, 'DaemonSet', 'isthmus'));
  const { containers } = podOf(find(objects, 'Deployment', 'clustermesh-apiserver'));
  assert.deepEqual(
    containers.map(each => each.name),
    ['etcd-init', 'etcd', 'apiserver', 'kvstoremesh'],
  );
  // Without clustermesh-apiserver there is no etcd for copies: the option waits for it.
  const alone = await render(mirrored.filter(each => each !== 'clustermesh.useAPIServer=true'));
  assert.deepEqual(fileOf(alone, 'cilium-clustermesh'), fileOf(direct, 'cilium-clustermesh'));
});

test("the mesh's etcd is started on the data that its first start made", async () => {
  const objects = await render(plain.concat('clustermesh.useAPIServer=true'));
  const { containers } = podOf(find(objects, 'Deployment', 'clustermesh-apiserver'));
  const server = '/etc/isthmus/server-cert';
  const prepared = etcdArguments({
    binary: '/usr/local/bin/etcd',
    dataDir: '/var/run/etcd/data',
    listen: '0.0.0.0:2379',
    tls: { ca: `${server}/ca.crt`, cert: `${server}/tls.crt`, key: `${server}/tls.key` },
  });
  const same =
    /^--(name|data-dir|initial-cluster|listen-client-urls|client-cert-auth|trusted-ca-file|cert-file|key-file)(=|$)/;
  const started = containers.find(each => each.name === 'etcd')?.args ?? [];
  assert.deepEqual(
    started.filter(each => same.test(each)).toSorted(),
    prepared.filter(each => same.test(each)).toSorted(),
  );
});

test('every remote cluster is a reader of its own', async () => {
  const { data } = z
    .object({ data: z.object({ 'users.yaml': z.string() }) })
    .parse(find(await render(meshed), 'ConfigMap', 'clustermesh-remote-users'));
  assert.deepEqual(parseRemoteUsers(data['users.yaml']), ['eu']);
});

/** What a GitOps repository of Cilium says once for all clusters of a mesh. */
const declared = [
  ...plain,
  'clustermesh.useAPIServer=true',
  'clustermesh.config.enabled=true',
  'clustermesh.config.clusters.us.ips={172.18.1.2}',
  'clustermesh.config.clusters.us.port=32379',
  'clustermesh.config.clusters.eu.ips={172.18.2.2}',
  'clustermesh.config.clusters.eu.port=32380',
  'clustermesh.config.clusters.ap.address=ap.example.com',
  'clustermesh.config.clusters.ap.enabled=false',
  'tls.ca.cert=QUJD',
  'tls.ca.key=REVG',
];

test('clusters named in a map, as in newer Cilium, are connected; this one and those switched off are not', async () => {
  const objects = await render(declared);
  const { data } = z
    .object({ data: z.record(z.string(), z.string()) })
    .parse(find(objects, 'Secret', 'cilium-clustermesh'));
  assert.deepEqual(Object.keys(data), ['eu']);
  assert.match(Buffer.from(data.eu!, 'base64').toString(), /https:\/\/eu\.mesh\.cilium\.io:32380/);
  const users = z
    .object({ data: z.object({ 'users.yaml': z.string() }) })
    .parse(find(objects, 'ConfigMap', 'clustermesh-remote-users'));
  assert.deepEqual(parseRemoteUsers(users.data['users.yaml']), ['eu']);
});

test('a CA in the values is in the Secret that Cilium has it in, and the operator may read it', async () => {
  const objects = await render(declared);
  assert.deepEqual(find(objects, 'Secret', 'cilium-ca').data, { 'ca.crt': 'QUJD', 'ca.key': 'REVG' });
  const names = rulesOf(find(objects, 'Role', 'isthmus-operator')).flatMap(rule => rule.resourceNames ?? []);
  assert.ok(names.includes('cilium-ca'), names.join());
});

test("who declares the mesh's Secrets himself meets none of ours", async () => {
  const own = await render([...plain, 'clustermesh.useAPIServer=true']);
  for (const name of ['cilium-clustermesh', 'cilium-kvstoremesh', 'clustermesh-remote-users', 'cilium-ca'])
    assert.ok(!own.some(each => each.metadata.name === name), name);
  const sources = z
    .object({
      projected: z.object({ sources: z.array(z.record(z.string(), z.object({ name: z.string() }))) }),
    })
    .parse(
      podOf(find(own, 'DaemonSet', 'isthmus')).spec.volumes.find(each => each.name === 'clustermesh-secrets'),
    );
  const names = sources.projected.sources.flatMap(source => Object.values(source).map(({ name }) => name));
  assert.deepEqual(names, [
    'cilium-clustermesh',
    'clustermesh-apiserver-remote-cert',
    'cilium-root-ca.crt',
    'clustermesh-apiserver-local-cert',
  ]);
});

test('ports of pods on the host network do not meet', async () => {
  const objects = await render(meshed);
  const ports = [
    find(objects, 'DaemonSet', 'isthmus'),
    find(objects, 'Deployment', 'isthmus-operator'),
  ].flatMap(each =>
    podOf(each).containers.flatMap(container => [
      ...(container.ports?.map(port => port.containerPort) ?? []),
      ...(container.livenessProbe ? [container.livenessProbe.httpGet.port] : []),
    ]),
  );
  assert.equal(new Set(ports).size, ports.length, ports.join());
});

const Container = z.object({
  name: z.string(),
  args: z.array(z.string()).optional(),
  env: z.array(z.object({ name: z.string(), value: z.string().optional() })).optional(),
  ports: z.array(z.object({ containerPort: z.number() })).optional(),
  livenessProbe: z.object({ httpGet: z.object({ port: z.union([z.number(), z.string()]) }) }).optional(),
  securityContext: z.looseObject({ privileged: z.boolean().optional() }).optional(),
});
const PodTemplate = z.object({
  spec: z.object({
    template: z.object({
      spec: z.object({
        hostNetwork: z.boolean().optional(),
        tolerations: z.array(z.unknown()).optional(),
        securityContext: z.record(z.string(), z.unknown()).optional(),
        initContainers: z.array(Container).default([]),
        containers: z.array(Container),
        volumes: z.array(z.looseObject({ name: z.string() })).default([]),
      }),
    }),
  }),
});

function podOf(object: Rendered) {
  const { spec } = PodTemplate.parse(object).spec.template;
  return { spec, containers: [...spec.initContainers, ...spec.containers] };
}

function rulesOf(role: Rendered) {
  const Rule = z.object({
    apiGroups: z.array(z.string()),
    resources: z.array(z.string()),
    resourceNames: z.array(z.string()).optional(),
    verbs: z.array(z.string()),
  });
  return z.object({ rules: z.array(Rule) }).parse(role).rules;
}
