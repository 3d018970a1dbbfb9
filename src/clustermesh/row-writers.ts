import { canonicalPrefix } from '../api/prefix.ts';
import type { Table } from '../table/table.ts';
import { requireServices } from './cluster-config.ts';
import type { Kind } from './layout.ts';
import type { EntryWriter, RemoteConsumer } from './remote-consumer.ts';
import type { WritableRemoteTables } from './rows.ts';
import { parseServiceExport } from './service-export.ts';
import { type Origin, parseAddress, parseIdentity, parseNode, parseService } from './values.ts';

/** Writes what a cluster says into tables, after checking each value against its cluster and its key. */
export function rowConsumer(
  cluster: string,
  kinds: readonly Kind[],
  tables: WritableRemoteTables,
): RemoteConsumer {
  return {
    kinds,
    check: config => {
      if (kinds.includes('services')) requireServices(cluster, config);
    },
    writer: (kind, origin) => {
      const below = (name: string): string => `${origin.cluster}/${name}`;
      const make: Record<Kind, () => EntryWriter> = {
        nodes: () => rowWriter(origin, tables.nodes, parseNode, below),
        identities: () => rowWriter(origin, tables.identities, parseIdentity, name => name),
        ip: () =>
          rowWriter(origin, tables.endpoints, parseAddress, name => below(canonicalPrefix(name) ?? '')),
        services: () => rowWriter(origin, tables.services, parseService, below),
        serviceexports: () => rowWriter(origin, tables.serviceExports, parseServiceExport, below),
      };
      // Only what was asked for comes.
      return make[kind as Kind]();
    },
  };
}

/** `keyOf`: the key of the row that an entry of this name makes, whatever its value. */
function rowWriter<Row extends { readonly cluster: string }>(
  origin: Origin,
  table: Table<Row>,
  parse: (key: string, rest: string, value: string, origin: Origin) => Row | undefined,
  keyOf: (name: string) => string,
): EntryWriter {
  const forget = (name: string): void => {
    const key = keyOf(name);
    // A name may be that of another cluster's row: then its value was refused.
    if (table.get(key)?.cluster === origin.cluster) table.delete(key);
  };
  return {
    put: (name, { key, value }) => {
      const row = parse(key, name, value, origin);
      if (row === undefined) forget(name);
      else table.upsert(row);
    },
    delete: forget,
  };
}
