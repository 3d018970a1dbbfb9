import type { Protocol } from '../api/service.ts';

/** One place a frontend may send a connection to. */
export interface Backend {
  /** Identifies the backend on this node: see {@link backendKey}. */
  readonly key: string;
  readonly addr: string;
  readonly port: number;
  readonly protocol: Protocol;
  /** Cluster that exports it; '' for the own one. */
  readonly cluster: string;
  /** Node that hosts it; '' where unknown, always for remote clusters. */
  readonly node: string;
  readonly state: BackendState;
}

/**
 * active: takes new connections. terminating: serves what it has, and new ones only where nothing is
 * active (KEP-1669). unhealthy: known to be bad, used only where affinity leaves no choice.
 */
export type BackendState = 'active' | 'terminating' | 'unhealthy';

/** Address, port and protocol: clusters share one address space, so that names one backend. */
export function backendKey(addr: string, port: number, protocol: Protocol): string {
  return `${addr}/${port}/${protocol}`;
}
