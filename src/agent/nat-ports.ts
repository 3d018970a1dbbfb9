/** Ports of this node that the datapath gives to masqueraded and NodePort flows. */
export interface PortRange {
  readonly min: number;
  readonly max: number;
}

/**
 * A range that neither the node's own sockets (net.ipv4.ip_local_port_range) nor NodePorts come from. Below
 * the NodePorts there is the most room, and few daemons listen there; else what is above the kernel's range.
 */
export function natPorts(local: PortRange, nodePorts: PortRange): PortRange {
  const floor = 16_384;
  const candidates: PortRange[] = [
    { min: floor, max: Math.min(local.min, nodePorts.min) - 1 },
    { min: Math.max(local.max, nodePorts.max) + 1, max: 65_535 },
    { min: floor, max: local.min - 1 },
  ];
  const best = candidates
    .filter(each => !overlaps(each, nodePorts) && !overlaps(each, local))
    .sort((a, b) => sizeOf(b) - sizeOf(a))[0];
  if (!best || sizeOf(best) < 1024)
    throw new Error(
      `no 1024 ports are left for masquerade: net.ipv4.ip_local_port_range is ${local.min} to ${local.max}, node-port-range ${nodePorts.min} to ${nodePorts.max}`,
    );
  return best;
}

const sizeOf = ({ min, max }: PortRange): number => max - min + 1;
const overlaps = (a: PortRange, b: PortRange): boolean => a.min <= b.max && b.min <= a.max;
