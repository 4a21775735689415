// Forms: what they hold, in the encoding of URLs.

type Field = HTMLInputElement;

// The fields that the user has changed, or sent.
const used = new WeakSet<Element>();

export const use = (...fields: Iterable<Element>[]) => {
  for (const list of fields) for (const field of list) used.add(field);
};

export const unuse = (form: HTMLFormElement) => {
  for (const field of form.elements) used.delete(field);
};

export const isUsed = (form: HTMLFormElement) => [...form.elements].some((field) => used.has(field));

/** What form holds, and the name and value of the button that sends it. */
export const values = (form: HTMLFormElement, button?: HTMLButtonElement | null) => {
  const out = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (typeof value === "string") out.append(name, value);
  if (button?.name) out.append(button.name, button.value);
  return out;
};

/** What form holds after a change of the field called target, with marks of what the user has not touched. */
export const changes = (form: HTMLFormElement, target: string) => {
  const out = values(form);
  out.append("_target", target);
  const fields = [...(form.elements as Iterable<Element>)] as Field[];
  const touched = new Set(fields.filter((field) => used.has(field)).map((field) => field.name));
  for (const { name, type } of fields)
    if (name && !/^(hidden|submit|button|reset|image|fieldset)$/.test(type) && !touched.has(name)) {
      touched.add(name);
      out.append("_unused_" + name, "");
    }
  return "" + out;
};

/** Whether a form is being emptied because the server has dealt with it. */
export let isResetting = false;

/** Shows what the server has rendered in the fields of a form that it has dealt with. */
export const reset = (form: HTMLFormElement) => {
  if (form.hasAttribute("live-keep")) return;
  unuse(form);
  isResetting = true;
  form.reset();
  isResetting = false;
};
