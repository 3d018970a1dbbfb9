/**
 * The floor: the same hosts and links without any network plugin, built beside the clusters in network
 * namespaces of its own. Two hosts and a router namespace between them as in the lab; a "pod" behind a
 * veth on each, and a second one on the first. `plain` paths use IPv4 routes, `vxlan` paths a kernel
 * VXLAN device with the MTU of 1450 that a tunnel needs.
 */
import { bridge, host, inside, makeNamespaces, pod, removeNamespaces, tunnel } from './hosts.ts';

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
  makeNamespaces(Object.values(names));
  bridge(names.router, 'br0', '10.201.0.254/24');
  bridge(names.router, 'br1', '10.205.0.254/24');
  host(names.router, names.a, 'br0', '10.201.0.1');
  host(names.router, names.b, 'br0', '10.201.0.2');
  host(names.router, names.c, 'br1', '10.205.0.3');
  const tunnelled = '10.203.0.0/16';
  pod(names.p, names.a, 'to-p', ['10.202.1.2', '10.203.1.2'], tunnelled);
  pod(names.s, names.a, 'to-s', ['10.202.1.3', '10.203.1.3'], tunnelled);
  pod(names.q, names.b, 'to-q', ['10.202.2.2', '10.203.2.2'], tunnelled);
  pod(names.t, names.c, 'to-t', ['10.202.3.2', '10.203.3.2'], tunnelled);
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
    [Symbol.dispose]: () => removeNamespaces(Object.values(names)),
  };
}
