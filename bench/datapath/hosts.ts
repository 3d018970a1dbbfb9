/**
 * Hosts, links and pods of network namespaces and nothing else: what a network plugin is measured beside. Hosts are
 * on bridges of a router, as a lab's nodes are.
 */
import { execFileSync } from 'node:child_process';
import { cgroupLayout } from '../../src/lab/cgroup.ts';
import type { Place } from './load.ts';

/** Makes namespaces that forward, anew. */
export function makeNamespaces(names: readonly string[]): void {
  removeNamespaces(names);
  for (const name of names) {
    ip('netns', 'add', name);
    inside(name, 'ip', 'link', 'set', 'lo', 'up');
    inside(
      name,
      'sysctl',
      '-qw',
      'net.ipv4.ip_forward=1',
      'net.ipv4.conf.all.rp_filter=0',
      'net.ipv4.conf.default.rp_filter=0',
    );
  }
}

/** Removes those that are there. */
export function removeNamespaces(names: readonly string[]): void {
  const present = execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' }).split(/\s/);
  for (const name of names) if (present.includes(name)) ip('netns', 'del', name);
}

/** A bridge of the router, and the router's address (with its length) on it. */
export function bridge(router: string, name: string, gateway: string): void {
  const device = `${name}gw`;
  const port = `${name}port`;
  inside(router, 'ip', 'link', 'add', name, 'type', 'bridge');
  inside(router, 'ip', 'link', 'add', device, 'type', 'veth', 'peer', 'name', port);
  inside(router, 'ip', 'link', 'set', port, 'master', name, 'up');
  inside(router, 'ip', 'link', 'set', name, 'up');
  inside(router, 'ip', 'link', 'set', device, 'up');
  inside(router, 'ip', 'address', 'add', gateway, 'dev', device);
}

/** A host on a bridge of the router, whose last address of 255 is its default gateway. */
export function host(router: string, name: string, on: string, address: string): void {
  const port = `h${address.split('.').at(-1)}`;
  ip('-n', router, 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
  ip('-n', router, 'link', 'set', port, 'master', on, 'up');
  inside(name, 'ip', 'address', 'add', `${address}/24`, 'dev', 'eth0');
  inside(name, 'ip', 'link', 'set', 'eth0', 'up');
  inside(name, 'ip', 'route', 'add', 'default', 'via', `${address.split('.').slice(0, 3).join('.')}.254`);
}

/** A link between two namespaces; the addresses of the ends are .1 and .2 of a network of 30 bits. */
export function link(device: string, network: string, near: string, far: string): void {
  ip('-n', near, 'link', 'add', device, 'type', 'veth', 'peer', 'name', device, 'netns', far);
  for (const [end, address] of [
    [near, `${network}.1/30`],
    [far, `${network}.2/30`],
  ] as const) {
    inside(end, 'ip', 'address', 'add', address, 'dev', device);
    inside(end, 'ip', 'link', 'set', device, 'up');
  }
}

/** One end of a point-to-point VXLAN; its own address is NETWORK.N where the host's ends in .N. */
export function tunnel(
  on: string,
  device: string,
  id: number,
  local: string,
  remote: string,
  network: string,
  far: string,
): void {
  const at = (address: string) => `${network}.${address.split('.').at(-1)}`;
  const ends = ['local', local, 'remote', remote, 'dstport', String(8465 + id), 'dev', 'eth0'];
  inside(on, 'ip', 'link', 'add', device, 'mtu', '1450', 'type', 'vxlan', 'id', String(id), ...ends);
  inside(on, 'ip', 'address', 'add', `${at(local)}/24`, 'dev', device);
  inside(on, 'ip', 'link', 'set', device, 'up');
  inside(on, 'ip', 'route', 'add', far, 'via', at(remote));
}

/**
 * A pod with two addresses. What it sends to `tunnelledTo` leaves from the second and fits into a tunnel,
 * everything else leaves from the first.
 */
export function pod(
  name: string,
  on: string,
  port: string,
  [plain, tunnelled]: readonly [string, string],
  tunnelledTo: string,
): void {
  ip('-n', on, 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
  inside(on, 'ip', 'link', 'set', port, 'up');
  inside(on, 'ip', 'address', 'add', `169.254.1.1/32`, 'dev', port);
  inside(name, 'ip', 'link', 'set', 'eth0', 'up');
  for (const address of [plain, tunnelled]) {
    inside(name, 'ip', 'address', 'add', `${address}/32`, 'dev', 'eth0');
    inside(on, 'ip', 'route', 'add', address, 'dev', port);
  }
  const gateway = ['via', '169.254.1.1'];
  inside(name, 'ip', 'route', 'add', '169.254.1.1', 'dev', 'eth0');
  inside(name, 'ip', 'route', 'add', 'default', ...gateway, 'src', plain);
  inside(name, 'ip', 'route', 'add', tunnelledTo, ...gateway, 'src', tunnelled, 'mtu', '1450');
}

/**
 * In a namespace, in the pod's groups of every cgroup v1 controller: it is scheduled like a pod, and its sockets and
 * threads are accounted like a pod's. Not in those of cgroup v2, which have the pod's socket hooks.
 */
export function inNamespace(namespace: string, podUid: string, probe: string): Place {
  const hierarchies = cgroupLayout().v1.map(({ directory }) => `/sys/fs/cgroup/${directory}`);
  // Pods of other labs come and go meanwhile.
  const find = [...hierarchies, '-ignore_readdir_race', '-type', 'd', '-name', `pod${podUid}`];
  const groups =
    hierarchies.length === 0 ? [] : execFileSync('find', find, { encoding: 'utf8' }).trim().split('\n');
  const enter = groups.map(group => `echo $$ > ${group}/cgroup.procs; `).join('');
  return {
    prefix: ['sh', '-c', `${enter}exec "$@"`, 'sh', 'ip', 'netns', 'exec', namespace],
    probe,
  };
}

export function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'inherit'] });
}

export function inside(namespace: string, ...command: string[]): void {
  execFileSync('ip', ['netns', 'exec', namespace, ...command], { stdio: ['ignore', 'ignore', 'inherit'] });
}
