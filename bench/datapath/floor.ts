/**
 * The floor: the same hosts and links without any network plugin, built beside the clusters in network
 * namespaces of its own. Two hosts and a router namespace between them as in the lab; a "pod" behind a
 * veth on each, and a second one on the first. `plain` paths use IPv4 routes, `vxlan` paths a kernel
 * VXLAN device with the MTU of 1450 that a tunnel needs.
 */
import { execFileSync } from 'node:child_process';

const prefix = 'istfloor';
const names = {
  router: `${prefix}-r`,
  a: `${prefix}-a`,
  b: `${prefix}-b`,
  p: `${prefix}-p`,
  q: `${prefix}-q`,
  s: `${prefix}-s`,
  c: `${prefix}-c`,
  t: `${prefix}-t`,
};

export interface Floor extends Disposable {
  /** Network namespaces of the client and of a server, and the server's address, by path. */
  readonly client: string;
  readonly paths: {
    readonly sameNode: FloorPath;
    readonly plain: FloorPath;
    readonly vxlan: FloorPath;
    /** Both through the router's forwarding, as between the lab's clusters. */
    readonly plainRouted: FloorPath;
    readonly vxlanRouted: FloorPath;
  };
}

export interface FloorPath {
  readonly server: string;
  readonly address: string;
}

/** Builds the floor; disposing takes it down. Only namespaces named for it are touched. */
export function floor(): Floor {
  down();
  for (const name of Object.values(names)) ip('netns', 'add', name);
  for (const name of Object.values(names)) {
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
  for (const [bridge, gateway] of [
    ['br0', '10.201.0.254/24'],
    ['br1', '10.205.0.254/24'],
  ] as const) {
    const device = `${bridge}gw`;
    const port = `${bridge}port`;
    inside(names.router, 'ip', 'link', 'add', bridge, 'type', 'bridge');
    inside(names.router, 'ip', 'link', 'add', device, 'type', 'veth', 'peer', 'name', port);
    inside(names.router, 'ip', 'link', 'set', port, 'master', bridge, 'up');
    inside(names.router, 'ip', 'link', 'set', bridge, 'up');
    inside(names.router, 'ip', 'link', 'set', device, 'up');
    inside(names.router, 'ip', 'address', 'add', gateway, 'dev', device);
  }
  host(names.a, 'br0', '10.201.0.1');
  host(names.b, 'br0', '10.201.0.2');
  host(names.c, 'br1', '10.205.0.3');
  pod(names.p, names.a, 'to-p', '10.202.1.2', '10.203.1.2');
  pod(names.s, names.a, 'to-s', '10.202.1.3', '10.203.1.3');
  pod(names.q, names.b, 'to-q', '10.202.2.2', '10.203.2.2');
  pod(names.t, names.c, 'to-t', '10.202.3.2', '10.203.3.2');
  inside(names.a, 'ip', 'route', 'add', '10.202.2.0/24', 'via', '10.201.0.2');
  inside(names.b, 'ip', 'route', 'add', '10.202.1.0/24', 'via', '10.201.0.1');
  // The hosts' way to the other bridge is their default route.
  inside(names.router, 'ip', 'route', 'add', '10.202.3.0/24', 'via', '10.205.0.3');
  inside(names.router, 'ip', 'route', 'add', '10.202.1.0/24', 'via', '10.201.0.1');
  tunnel(names.a, 'vx', 7, '10.201.0.1', '10.201.0.2', '10.204.0', '10.203.2.0/24');
  tunnel(names.b, 'vx', 7, '10.201.0.2', '10.201.0.1', '10.204.0', '10.203.1.0/24');
  tunnel(names.a, 'vy', 8, '10.201.0.1', '10.205.0.3', '10.206.0', '10.203.3.0/24');
  tunnel(names.c, 'vy', 8, '10.205.0.3', '10.201.0.1', '10.206.0', '10.203.1.0/24');
  return {
    client: names.p,
    paths: {
      sameNode: { server: names.s, address: '10.202.1.3' },
      plain: { server: names.q, address: '10.202.2.2' },
      vxlan: { server: names.q, address: '10.203.2.2' },
      plainRouted: { server: names.t, address: '10.202.3.2' },
      vxlanRouted: { server: names.t, address: '10.203.3.2' },
    },
    [Symbol.dispose]: down,
  };
}

/** A host on a bridge of the router, as the lab's nodes are. */
function host(name: string, bridge: string, address: string): void {
  const port = `h${address.split('.').at(-1)}`;
  ip('-n', names.router, 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
  ip('-n', names.router, 'link', 'set', port, 'master', bridge, 'up');
  inside(name, 'ip', 'address', 'add', `${address}/24`, 'dev', 'eth0');
  inside(name, 'ip', 'link', 'set', 'eth0', 'up');
  inside(name, 'ip', 'route', 'add', 'default', 'via', `${address.split('.').slice(0, 3).join('.')}.254`);
}

/** One end of a point-to-point VXLAN; its own address is NETWORK.N where the host's ends in .N. */
function tunnel(
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

/** A pod with two addresses: traffic to the first kind goes by plain routes, to the second by VXLAN. */
function pod(name: string, on: string, port: string, plain: string, tunnelled: string): void {
  ip('-n', on, 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
  inside(on, 'ip', 'link', 'set', port, 'up');
  inside(on, 'ip', 'address', 'add', `169.254.1.1/32`, 'dev', port);
  inside(name, 'ip', 'link', 'set', 'eth0', 'up');
  for (const address of [plain, tunnelled]) {
    inside(name, 'ip', 'address', 'add', `${address}/32`, 'dev', 'eth0');
    inside(on, 'ip', 'route', 'add', address, 'dev', port);
  }
  inside(name, 'ip', 'route', 'add', '169.254.1.1', 'dev', 'eth0');
  inside(name, 'ip', 'route', 'add', 'default', 'via', '169.254.1.1', 'src', plain);
  inside(name, 'ip', 'route', 'add', '10.203.0.0/16', 'via', '169.254.1.1', 'src', tunnelled, 'mtu', '1450');
}

function down(): void {
  const present = execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' });
  for (const name of Object.values(names)) if (present.split(/\s/).includes(name)) ip('netns', 'del', name);
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'inherit'] });
}

function inside(namespace: string, ...command: string[]): void {
  execFileSync('ip', ['netns', 'exec', namespace, ...command], { stdio: ['ignore', 'ignore', 'inherit'] });
}
