/**
 * What a NodePort costs where people use kube-proxy: hosts with plain routes, beside a lab on this machine, and a real
 * kube-proxy in nftables mode on the host that is asked. It watches the lab's API server, in whose cluster its
 * services are; everything else of it is apart from the lab.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { ensureBinaries } from '../../src/lab/binaries.ts';
import type { Lab, LabCluster } from '../../src/lab/open-lab.ts';
import {
  bridge,
  host,
  inside,
  link,
  makeNamespaces,
  pod,
  removeNamespaces,
  tunnel,
} from '../datapath/hosts.ts';

const prefix = 'istproxy';
const names = {
  router: `${prefix}-r`,
  asked: `${prefix}-a`,
  other: `${prefix}-b`,
  server: `${prefix}-q`,
  client: `${prefix}-o`,
  labClient: `${prefix}-i`,
};

const asked = '10.201.0.1';
const other = '10.201.0.2';

export interface KubeProxyHosts extends AsyncDisposable {
  /** Network namespaces outside: a client of these hosts, and one behind the lab's router. */
  readonly client: string;
  readonly labClient: string;
  /** The host that serves NodePorts. */
  readonly asked: string;
  /** Where the server is; on the other host. */
  readonly server: string;
  /** The server's addresses, by plain routes and by VXLAN. */
  readonly plain: string;
  readonly vxlan: string;
}

/** Builds the hosts and starts kube-proxy, whose log goes to `folder`; disposing removes both. */
export async function kubeProxyHosts(
  lab: Lab,
  cluster: LabCluster,
  folder: string,
  report: (line: string) => void,
): Promise<KubeProxyHosts> {
  const binaries = await ensureBinaries(['kube-proxy'], { report });
  const all = Object.values(names);
  makeNamespaces(all);
  const plain = '10.202.2.2';
  const vxlan = '10.203.2.2';
  bridge(names.router, 'br0', '10.201.0.254/24');
  host(names.router, names.asked, 'br0', asked);
  host(names.router, names.other, 'br0', other);
  // What kube-proxy masquerades for a tunnel has the tunnel device's address.
  pod(names.server, names.other, 'to-q', [plain, vxlan], '10.204.0.0/24');
  inside(names.asked, 'ip', 'route', 'add', '10.202.2.0/24', 'via', other);
  inside(names.router, 'ip', 'route', 'add', '10.202.2.0/24', 'via', other);
  tunnel(names.asked, 'vx', 7, asked, other, '10.204.0', '10.203.2.0/24');
  tunnel(names.other, 'vx', 7, other, asked, '10.204.0', '10.203.1.0/24');
  for (const [client, router, network] of [
    [names.client, names.router, '10.209.0'],
    [names.labClient, lab.plan.router.namespace, '10.209.1'],
  ] as const) {
    link('outside', network, router, client);
    inside(client, 'ip', 'route', 'add', 'default', 'via', `${network}.1`);
  }
  link('api', '10.209.2', lab.plan.router.namespace, names.asked);
  inside(names.asked, 'ip', 'route', 'add', cluster.plan.subnet, 'via', '10.209.2.1');
  const proxy = spawn(
    'ip',
    [
      ...['netns', 'exec', names.asked, binaries['kube-proxy'], '--proxy-mode', 'nftables'],
      ...['--kubeconfig', cluster.kubeconfig, '--hostname-override', cluster.plan.nodes[0]!.name],
      ...['--bind-address', asked, '--nodeport-addresses', `${asked}/32`, '--cluster-cidr', '10.202.0.0/15'],
      ...['--healthz-bind-address', `${asked}:10256`, '--metrics-bind-address', '127.0.0.1:10249'],
      ...['--conntrack-max-per-core', '0', '--conntrack-min', '0'],
      ...['--conntrack-tcp-timeout-established', '0', '--conntrack-tcp-timeout-close-wait', '0'],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  proxy.stderr.pipe(createWriteStream(join(folder, 'kube-proxy.log')));
  return {
    client: names.client,
    labClient: names.labClient,
    asked,
    server: names.server,
    plain,
    vxlan,
    async [Symbol.asyncDispose]() {
      if (proxy.exitCode === null && proxy.signalCode === null) {
        const ended = once(proxy, 'exit');
        proxy.kill();
        await ended;
      }
      removeNamespaces(all);
    },
  };
}
