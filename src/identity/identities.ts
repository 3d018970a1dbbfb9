import { CiliumIdentity, type IdentityRow, identityRow } from '../api/crds/cilium-identity.ts';
import type { KubeClient } from '../kube/client.ts';
import { type BadObject, type Reflection, reflect } from '../kube/reflect.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { Table } from '../table/table.ts';

/** All identities of the own cluster; index `text` finds them by their labels' canonical text. */
export function identitiesTable(
  indexes: Readonly<Record<string, (row: IdentityRow) => readonly string[]>> = {},
): Table<IdentityRow> {
  return new Table<IdentityRow>({
    name: 'identities',
    keyOf: row => String(row.identity),
    indexes: { ...indexes, text: row => [row.text] },
  });
}

/** Keeps the table equal to the cluster's CiliumIdentity objects. */
export function reflectIdentities(
  client: KubeClient,
  table: Table<IdentityRow>,
  options: {
    signal: AbortSignal;
    onBad?: (bad: BadObject) => void;
    onError?: (error: Error, delay: number) => void;
  },
): Reflection {
  return reflect(client, {
    path: pathOf(resources.ciliumIdentities),
    schema: CiliumIdentity,
    table,
    toRow: identityRow,
    ...options,
  });
}
