/** The TypeScript source of src/config/config.generated.ts, made from configs/schema.json. */
export function configType(): Promise<string>;
