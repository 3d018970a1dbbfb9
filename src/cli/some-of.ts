/** Names in one line; where there are more than `most`, the first ones and how many are left out. */
export function someOf(names: readonly string[], most: number): string {
  if (names.length <= most) return names.join(', ');
  return `${names.slice(0, most - 1).join(', ')} and ${names.length - most + 1} more`;
}
