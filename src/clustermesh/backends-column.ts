import type { RemoteBackends, RemotePart } from '../loadbalancer/remote-service.ts';
import { type ColumnKind, text } from '../table/columns.ts';
import { Interned } from '../table/interned.ts';

/**
 * Backends of other clusters' services. Nearly all of a service have the same ports, so that each run of such is a
 * line of their addresses and, once, of the ports: a tenth of the memory of objects.
 */
export const backendsColumn: ColumnKind<RemoteBackends> = () => {
  const texts = text();
  return {
    ...texts,
    read: slot => parseBackends(texts.read(slot)),
    write: (slot, value) => texts.write(slot, formatBackends(value)),
  };
};

/** `10.2.0.4 10.2.0.5 {"http":{"protocol":"TCP","port":8080}}`, a line each. */
function formatBackends(backends: RemoteBackends): string {
  let line = '';
  let ports: RemotePart[string] | undefined;
  let portsText = '{}';
  const lines: string[] = [];
  for (const part of backends)
    for (const address of Object.keys(part)) {
      const next = part[address]!;
      if (next !== ports) {
        const nextText = JSON.stringify(next);
        if (line !== '' && nextText !== portsText) {
          lines.push(line + portsText);
          line = '';
        }
        [ports, portsText] = [next, nextText];
      }
      line += `${address} `;
    }
  lines.push(line + portsText);
  return lines.join('\n');
}

/** All in one part. */
function parseBackends(text: string): RemoteBackends {
  // Without a prototype it is a hash table: of any other object the engine would keep a shape for each set of addresses.
  const backends: Record<string, RemotePart[string]> = Object.create(null);
  let any = false;
  for (const line of text.split('\n')) {
    const at = line.indexOf('{');
    if (at === 0) continue; // there are none
    const portsText = line.slice(at);
    const ports = known.of(portsText, () => JSON.parse(portsText) as RemotePart[string]);
    for (const address of line.slice(0, at - 1).split(' ')) backends[address] = ports;
    any = true;
  }
  return any ? [backends] : [];
}

/** Services have few different ports. */
const known = new Interned<RemotePart[string]>();
