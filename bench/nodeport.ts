/**
 * `npm run bench:nodeport`: a NodePort that a client outside asks at one node while the backend is on another, by SNAT
 * and by direct server return, beside a real kube-proxy in nftables mode on hosts without any network plugin. Columns:
 * plain routing is the pod's own address asked from outside, without any service; the floor is kube-proxy. In
 * rows of the tunnel both carry packets between the nodes by VXLAN, in rows of native routing neither does.
 *
 * Measured as in bench/datapath.ts: in turn, values of the same round are compared, both ends pinned.
 * Options: --rounds N, --seconds S of a measurement, --path TEXT and --measure TEXT (only rows with that in their
 * name), --name LAB (made, and removed afterwards, unless it is up), --keep.
 */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { benchLab } from './bench-lab.ts';
import { openNamespace } from './datapath/clusters.ts';
import { inNamespace } from './datapath/hosts.ts';
import { buildProbe, measures, ports, startServers } from './datapath/load.ts';
import { type Column, Results } from './datapath/results.ts';
import { Measurement, type Path, type Way } from './datapath/rounds.ts';
import { kubeProxyHosts } from './nodeport/kube-proxy.ts';
import { setRoutingMode } from './routing-mode.ts';

const { values } = parseArgs({
  options: {
    name: { type: 'string', default: 'nodeport' },
    rounds: { type: 'string', default: '9' },
    seconds: { type: 'string', default: '1' },
    path: { type: 'string', default: '' },
    measure: { type: 'string', default: '' },
    keep: { type: 'boolean', default: false },
  },
});
const [rounds, seconds] = [values.rounds, values.seconds].map(Number) as [number, number];
const report = (line: string): void => console.error(line);

await using bench = await benchLab(
  values.name,
  [{ name: 'us', network: 'isthmus', workers: 1 }],
  values.keep,
);
const cluster = bench.lab.cluster('us');
const [asked, other] = cluster.plan.nodes;
const probe = buildProbe();
const namespace = openNamespace(bench.lab, cluster);
await namespace.create();
const [client, server] = await Promise.all([
  namespace.startPod('client', asked!.name, probe),
  namespace.startPod('server', other!.name, probe),
]);
await using kubeProxy = await kubeProxyHosts(
  bench.lab,
  cluster,
  mkdtempSync(join(tmpdir(), 'isthmus-bench-')),
  report,
);
await using stack = new AsyncDisposableStack();
stack.use(startServers(server.place));
stack.use(startServers(inNamespace(kubeProxy.server, server.uid, probe)));
// Both clients are in namespaces outside, and in the groups of a pod that does nothing.
const [ourClient, theirClient] = [kubeProxy.labClient, kubeProxy.client].map(each =>
  inNamespace(each, client.uid, probe),
) as [Way['client'], Way['client']];

const mode = (forwarding: string) => ({ 'service.cilium.io/forwarding-mode': forwarding });
const nodePorts = {
  snat: await namespace.createNodePort('snat', server.address, mode('snat')),
  dsr: await namespace.createNodePort('dsr', server.address, mode('dsr')),
  plain: await namespace.createNodePort('kube-proxy-plain', kubeProxy.plain, {}),
  vxlan: await namespace.createNodePort('kube-proxy-vxlan', kubeProxy.vxlan, {}),
};

function path(name: string, ours: 'snat' | 'dsr', theirs: 'plain' | 'vxlan'): Path {
  const ways: [Column, Way][] = [
    ['floor', { client: theirClient, to: { address: kubeProxy.asked, ports: nodePorts[theirs] } }],
    ['isthmus', { client: ourClient, to: { address: asked!.address, ports: nodePorts[ours] } }],
  ];
  if (theirs === 'plain')
    ways.unshift(['plain', { client: theirClient, to: { address: kubeProxy.plain, ports } }]);
  return {
    name,
    ways: new Map(ways),
    measures: measures.filter(measure => measure.name.includes(values.measure)),
    goals: {
      'throughput, one stream': '≥ 1',
      'one-byte round trip p50': '≤ 1',
      'new connections': '≥ 1',
    },
  };
}

const results = new Results(measures);
const measurement = new Measurement(results, { rounds, seconds, path: values.path, report });

await setRoutingMode(cluster, 'tunnel', report);
await measurement.take([path('tunnel, SNAT', 'snat', 'vxlan')]);
await setRoutingMode(cluster, 'native', report);
await measurement.take([
  path('native routing, SNAT', 'snat', 'plain'),
  path('native routing, DSR', 'dsr', 'plain'),
]);
console.log(results.markdown(undefined));
console.log(`\n${measurement.legend()}`);
namespace.close();
