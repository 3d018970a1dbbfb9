/**
 * A mesh as its users declare it: values that Cilium's chart and ours both take, the same for all clusters but for
 * a cluster's own name, number and port. Nobody runs `connect`.
 */
import { createAuthority, type KeyPair } from '../../src/clustermesh/x509.ts';
import type { LabCluster } from '../../src/lab/open-lab.ts';

export interface DeclaredMesh {
  /** Signs all certificates, in all clusters. */
  readonly authority: KeyPair;
  readonly members: readonly MeshMember[];
  /** 255 or 511. Default 255. */
  readonly maxClusters?: number;
  /** ServiceExports and ServiceImports. */
  readonly mcsApi?: boolean;
}

export interface MeshMember {
  readonly name: string;
  readonly id: number;
  /** Addresses of nodes that lead to its etcd. */
  readonly addresses: readonly string[];
  /** NodePort of its etcd. */
  readonly port: number;
  /** Under which name it reads the others: `cluster` its own, else `remote`. Default migration. */
  readonly authMode?: 'migration' | 'cluster';
}

/** A member on the nodes of a lab's cluster. A port for each: Cilium takes a remote node's NodePort for its own one's. */
export function memberOf(cluster: LabCluster, own: Partial<MeshMember> = {}): MeshMember {
  const { number, nodes } = cluster.plan;
  const addresses = nodes.map(({ address }) => address);
  return { name: cluster.name, id: number, addresses, port: 32_378 + number, ...own };
}

/** An authority for a test's mesh. */
export function meshAuthority(): Promise<KeyPair> {
  const now = Date.now();
  const day = 86_400_000;
  return createAuthority('Cilium CA', new Date(now - day), new Date(now + 365 * day));
}

/** The values of one member. */
export function declaredValues(mesh: DeclaredMesh, member: MeshMember) {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const { cert, key } = mesh.authority;
  return {
    cluster: { name: member.name, id: member.id },
    tls: { ca: { cert: base64(cert), key: base64(key) } },
    clustermesh: {
      useAPIServer: true,
      maxConnectedClusters: mesh.maxClusters ?? 255,
      mcsapi: { enabled: mesh.mcsApi ?? false },
      config: {
        enabled: true,
        clusters: Object.fromEntries(
          mesh.members.map(({ name, addresses, port }) => [name, { ips: addresses, port }]),
        ),
      },
      apiserver: {
        service: { type: 'NodePort', nodePort: member.port },
        tls: {
          authMode: member.authMode ?? 'migration',
          server: { extraIpAddresses: member.addresses },
        },
      },
    },
  };
}
