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
      const make: Record<Kind, () => EntryWriter> = {
        nodes: () => rowWriter(origin, tables.nodes, parseNode),
        identities: () => rowWriter(origin, tables.identities, parseIdentity),
        ip: () => rowWriter(origin, tables.endpoints, parseAddress),
        services: () => rowWriter(origin, tables.services, parseService),
        serviceexports: () => rowWriter(origin, tables.serviceExports, parseServiceExport),
      };
      // Only what was asked for comes.
      return make[kind as Kind]();
    },
  };
}

function rowWriter<Row>(
  origin: Origin,
  table: Table<Row>,
  parse: (key: string, rest: string, value: string, origin: Origin) => Row | undefined,
): EntryWriter {
  const rowOf = new Map<string, string>();
  const forget = (name: string): void => {
    const row = rowOf.get(name);
    rowOf.delete(name);
    if (row !== undefined) table.delete(row);
  };
  return {
    put: (name, { key, value }) => {
      const row = parse(key, name, value, origin);
      if (row === undefined) return forget(name);
      rowOf.set(name, table.keyOf(row));
      table.upsert(row);
    },
    delete: forget,
  };
}
