import { createHash } from 'node:crypto';
import type { Btf } from './btf.ts';
import { type Layout, layoutOf } from './layout.ts';

/** A map as the object declares it (libbpf's BTF-defined maps in `.maps`). */
export interface MapSpec {
  readonly name: string;
  /** enum bpf_map_type. */
  readonly type: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly key: Layout;
  readonly value: Layout;
  /** Name below the pin folder: carries the layout, so that an upgrade can fill a changed map beside the old one. */
  readonly pin: string;
}

export const MAP_TYPE = { PERCPU_HASH: 5, PERCPU_ARRAY: 6, LRU_PERCPU_HASH: 10, SK_STORAGE: 24 } as const;

/** The maps of `.maps`; `sizes` replaces max_entries by name. */
export function mapSpecs(btf: Btf, sizes: Readonly<Record<string, number>> = {}): readonly MapSpec[] {
  const section = btf.find(type => type.kind === 'section' && type.name === '.maps');
  if (section?.kind !== 'section') throw new Error('the object has no .maps section');
  return section.variables.map(id => specOf(btf, id, sizes));
}

function specOf(btf: Btf, id: number, sizes: Readonly<Record<string, number>>): MapSpec {
  const variable = btf[id];
  const definition = variable?.kind === 'variable' ? btf[variable.type] : undefined;
  if (variable?.kind !== 'variable' || definition?.kind !== 'struct')
    throw new Error(`.maps: type ${id} is no map definition`);
  const pointed = (name: string): number | undefined => {
    const member = definition.members.find(each => each.name === name);
    const pointer = member && btf[member.type];
    return pointer?.kind === 'pointer' ? pointer.type : undefined;
  };
  // __uint(name, 3) is declared as a pointer to an array of 3.
  const number = (name: string): number => {
    const array = btf[pointed(name) ?? 0];
    return array?.kind === 'array' ? array.length : 0;
  };
  const layout = (name: string): Layout => {
    const type = pointed(name);
    if (type === undefined) throw new Error(`map ${variable.name} has no ${name} type`);
    return layoutOf(btf, type);
  };
  const spec = {
    type: number('type'),
    maxEntries: sizes[variable.name] ?? number('max_entries'),
    flags: number('map_flags'),
    key: layout('key'),
    value: layout('value'),
  };
  const hash = createHash('sha256').update(JSON.stringify(spec)).digest('hex').slice(0, 12);
  return { name: variable.name, ...spec, pin: `${variable.name}_${hash}` };
}
