import { type Backend, backendKey } from './backend.ts';

/** The n-th (below 65,536) of active backends of the own cluster, for tests. */
export function backend(n: number): Backend {
  const addr = `10.1.${n >> 8}.${n & 255}`;
  return {
    key: backendKey(addr, 8080, 'TCP'),
    addr,
    port: 8080,
    protocol: 'TCP',
    cluster: '',
    node: '',
    state: 'active',
  };
}
