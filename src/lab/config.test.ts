import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure } from '../failure.ts';
import { defaultConfig, nameFromFile, parseConfig, parseDelay, parseLoss, parseRate } from './config.ts';

/** The configuration of a tutorial that people follow: no name in it, and no network wanted. */
const tutorial = `---
apiVersion: kind.x-k8s.io/v1alpha4
kind: Cluster
networking:
  disableDefaultCNI: true
  podSubnet: 10.1.0.0/16
  serviceSubnet: 172.20.1.0/24
nodes:
  - role: control-plane
    extraPortMappings:
      - containerPort: 32042
        hostPort: 32042
  - role: worker
  - role: worker
`;

const parse = (text: string, path = 'kind-us-cluster.yaml') => parseConfig([{ path, text }]);

function failure(text: string): string {
  try {
    parse(text);
  } catch (error) {
    assert.ok(error instanceof Failure, String(error));
    return error.message;
  }
  assert.fail('it was accepted');
}

test("a tutorial's kind file works as it is, named by its file", () => {
  const [cluster] = parse(tutorial).clusters;
  assert.equal(cluster?.name, 'us');
  assert.equal(cluster.install, false);
  assert.equal(cluster.podSubnet, '10.1.0.0/16');
  assert.equal(cluster.serviceSubnet, '172.20.1.0/24');
  assert.deepEqual(
    cluster.nodes.map(node => node.role),
    ['control-plane', 'worker', 'worker'],
  );
  assert.deepEqual(cluster.nodes[0]?.portMappings, [
    { containerPort: 32042, hostPort: 32042, listenAddress: '0.0.0.0', protocol: 'TCP' },
  ]);
});

test('ipFamily chooses the ranges, and those given must be of it', () => {
  const document = (networking: string): string =>
    `apiVersion: kind.x-k8s.io/v1alpha4\nkind: Cluster\nname: us\nnetworking: { ${networking} }`;
  const ranges = (networking: string): string[] => {
    const [cluster] = parse(document(networking)).clusters;
    return [cluster!.ipFamily, cluster!.podSubnet, cluster!.serviceSubnet];
  };
  assert.deepEqual(ranges('ipFamily: ipv6'), ['ipv6', 'fd00:10:1::/56', 'fd00:10:97::/112']);
  assert.deepEqual(ranges('ipFamily: dual, podSubnet: "10.9.0.0/16, fd00:9::/56"'), [
    'dual',
    '10.9.0.0/16,fd00:9::/56',
    '10.97.0.0/16,fd00:10:97::/112',
  ]);
  assert.match(
    failure(document('ipFamily: ipv6, serviceSubnet: 10.9.0.0/16')),
    /networking\.serviceSubnet: found "10\.9\.0\.0\/16", expected an IPv6 prefix .* for ipFamily ipv6/,
  );
  assert.match(
    failure(document('ipFamily: dual, podSubnet: "fd00:9::/56,10.9.0.0/16"')),
    /expected an IPv4 and an IPv6 prefix/,
  );
});

test('a name on the command line beats the file name, and the document beats both', () => {
  const named = parseConfig([{ path: 'kind-us-cluster.yaml', text: tutorial, clusterName: 'asia' }]);
  assert.equal(named.clusters[0]?.name, 'asia');
  const own = parseConfig([{ path: 'x.yaml', text: `${tutorial}name: africa\n`, clusterName: 'asia' }]);
  assert.equal(own.clusters[0]?.name, 'africa');
});

test('several documents in a file are several clusters and the links between them', () => {
  const { clusters, links } = parse(`
apiVersion: kind.x-k8s.io/v1alpha4
kind: Cluster
name: us
---
apiVersion: kind.x-k8s.io/v1alpha4
kind: Cluster
name: eu
nodes: [{role: worker, labels: {zone: b}}, {role: control-plane}]
---
apiVersion: lab.isthmus.io/v1alpha1
kind: Link
between: [us, eu]
delay: 40ms
loss: 0.1%
rate: 100mbit
`);
  assert.deepEqual(
    clusters.map(({ name, podSubnet, serviceSubnet }) => [name, podSubnet, serviceSubnet]),
    [
      ['us', '10.1.0.0/16', '10.97.0.0/16'],
      ['eu', '10.2.0.0/16', '10.98.0.0/16'],
    ],
  );
  assert.deepEqual(
    clusters[1]?.nodes.map(({ role, labels }) => [role, labels]),
    [
      ['control-plane', {}],
      ['worker', { zone: 'b' }],
    ],
  );
  assert.deepEqual(links, [{ between: ['us', 'eu'], delay: 40, loss: 0.1, rate: 100e6 }]);
});

test('what is understood but has no effect here is said', () => {
  const { notes } = parse(
    `${tutorial}name: us\n`.replace('disableDefaultCNI: true', 'kubeProxyMode: iptables'),
  );
  assert.match(notes.join(), /cluster us: kubeProxyMode is ignored/);
});

/** As in kind's own example for an ingress controller. */
const ingress = `kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
name: us
kubeadmConfigPatches:
- |
  apiVersion: kubeadm.k8s.io/v1beta4
  kind: JoinConfiguration
  nodeRegistration:
    kubeletExtraArgs:
    - name: max-pods
      value: "40"
nodes:
- role: control-plane
  kubeadmConfigPatches:
  - |
    kind: InitConfiguration
    nodeRegistration:
      kubeletExtraArgs:
        node-labels: "ingress-ready=true,zone=a"
        v: 4
- role: worker
  labels: {disk: fast}
`;

test('of patches of kubeadm labels and arguments of the kubelet are obeyed, the rest is refused by its name', () => {
  const { clusters } = parse(ingress);
  assert.deepEqual(
    clusters[0]!.nodes.map(({ labels, kubeletArgs }) => [labels, kubeletArgs]),
    [
      [{ 'ingress-ready': 'true', zone: 'a' }, { v: '4' }],
      [{ disk: 'fast' }, { 'max-pods': '40' }],
    ],
  );
  const where = /document 1 \(Cluster\): nodes\[0\]\.kubeadmConfigPatches\[0\]/.source;
  const cases: readonly (readonly [string, string, string])[] = [
    [
      'kind: InitConfiguration',
      'kind: ClusterConfiguration',
      ': kind: found "ClusterConfiguration", expected',
    ],
    [
      'nodeRegistration:\n      kubelet',
      'localAPIEndpoint: {}\n    nodeRegistration:\n      kubelet',
      ': localAPIEndpoint: unknown field',
    ],
    ['v: 4', 'node-ip: 10.0.0.1', "\\.nodeRegistration\\.kubeletExtraArgs\\.node-ip: it is the lab's to set"],
    [
      'zone=a',
      'zone',
      '\\.nodeRegistration\\.kubeletExtraArgs\\.node-labels: found "zone", expected labels such as',
    ],
  ];
  for (const [from, to, message] of cases) {
    assert.notEqual(ingress.replace(from, to), ingress);
    assert.match(failure(ingress.replace(from, to)), new RegExp(where + message));
  }
});

test('an error names file, document, field, what was found and what was expected', () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    [
      tutorial.replace('role: worker', 'role: wroker'),
      /^kind-us-cluster.yaml, document 1 \(Cluster\): nodes\[1\]\.role: found "wroker", expected "control-plane" or "worker"$/,
    ],
    [
      tutorial.replace('10.1.0.0/16', '10.1.0.0'),
      /networking\.podSubnet: found "10\.1\.0\.0", expected an IPv4 prefix/,
    ],
    [tutorial.replace('podSubnet', 'podSubnets'), /networking\.podSubnets: unknown field/],
    [tutorial.replace('hostPort: 32042', 'hostPort: 70000'), /hostPort: found 70000, expected at most 65535/],
    [
      tutorial.replace('hostPort: 32042', 'hostPort: http'),
      /hostPort: found "http", expected a value of type number/,
    ],
    [
      tutorial.replace('- role: control-plane', '- role: worker'),
      /found 0 with role control-plane, expected exactly 1/,
    ],
    [tutorial.replace('v1alpha4', 'v1alpha9'), /found apiVersion "kind\.x-k8s\.io\/v1alpha9"/],
    [
      tutorial.replace('disableDefaultCNI: true', 'ipFamily: dual'),
      /networking\.podSubnet: found "10\.1\.0\.0\/16", expected an IPv4 and an IPv6 prefix/,
    ],
    ['kind: Cluster', /document 1: apiVersion: found nothing, expected a value of type string/],
    ['', /no document in it/],
    [`${tutorial}name: Us\n`, /name: found "Us", expected lower-case letters/],
    [
      'apiVersion: lab.isthmus.io/v1alpha1\nkind: Link\nbetween: [us, eu]\n',
      /link us-eu: between: found "us", expected one of/,
    ],
    [
      'apiVersion: lab.isthmus.io/v1alpha1\nkind: Link\nbetween: [us, eu]\ndelay: 40\n',
      /delay: found 40, expected a value of type string/,
    ],
    [
      'apiVersion: lab.isthmus.io/v1alpha1\nkind: Link\nbetween: [us, eu]\ndelay: soon\n',
      /delay: found "soon", expected a time such as 40ms/,
    ],
  ];
  for (const [text, expected] of cases) assert.match(failure(text), expected);
});

test('clusters of one name and ports mapped twice are refused', () => {
  assert.match(failure(`${tutorial}name: us\n${tutorial}name: us\n`), /two clusters are named us/);
  assert.match(
    failure(`${tutorial}name: us\n${tutorial}name: eu\n`),
    /TCP port 32042 of this machine is mapped twice, by us and eu/,
  );
});

test('two documents without a name need one', () => {
  assert.match(failure(tutorial + tutorial), /name: missing/);
});

test('without a file it is us and eu, of three nodes each', () => {
  const { clusters } = defaultConfig();
  assert.deepEqual(
    clusters.map(({ name, nodes, install }) => [name, nodes.length, install]),
    [
      ['us', 3, true],
      ['eu', 3, true],
    ],
  );
});

test('file names give cluster names', () => {
  assert.equal(nameFromFile('/tmp/kind-us-cluster.yaml'), 'us');
  assert.equal(nameFromFile('eu.yml'), 'eu');
  assert.equal(nameFromFile('us-east.kind.yaml'), 'us-east');
  assert.equal(nameFromFile('kind.yaml'), undefined);
});

test('times, shares and rates', () => {
  assert.equal(parseDelay('40ms'), 40);
  assert.equal(parseDelay('1.5s'), 1500);
  assert.equal(parseDelay('250us'), 0.25);
  assert.equal(parseDelay('40'), undefined);
  assert.equal(parseLoss('0.1%'), 0.1);
  assert.equal(parseLoss('101%'), undefined);
  assert.equal(parseRate('100mbit'), 100e6);
  assert.equal(parseRate('1.5Gbit'), 1.5e9);
  assert.equal(parseRate('0mbit'), undefined);
});
