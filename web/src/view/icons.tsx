// Icons, 16 by 16, drawn in the text's colour.

import type { ComponentChildren } from "preact";

function icon(children: ComponentChildren) {
  return () => (
    <svg
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      stroke-width="1.5"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      {children}
    </svg>
  );
}

export const Play = icon(<path d="M5 3.5v9l7.5-4.5z" fill="currentColor" />);
export const Pause = icon(<path d="M5.5 3.5v9M10.5 3.5v9" stroke-width="2" />);
export const Left = icon(<path d="M10 3.5 5.5 8l4.5 4.5" />);
export const Right = icon(<path d="M6 3.5 10.5 8 6 12.5" />);
export const First = icon(<path d="M12 3.5 7.5 8l4.5 4.5M4 3.5v9" />);
export const Last = icon(<path d="M4 3.5 8.5 8 4 12.5M12 3.5v9" />);
export const Up = icon(<path d="M3.5 10 8 5.5l4.5 4.5" />);
export const Down = icon(<path d="M3.5 6 8 10.5 12.5 6" />);
export const Plus = icon(<path d="M8 3.5v9M3.5 8h9" />);
export const Minus = icon(<path d="M3.5 8h9" />);
export const Close = icon(<path d="m4 4 8 8M12 4l-8 8" />);
export const Check = icon(<path d="m3.5 8.5 3 3 6-7" />);
export const Sun = icon(
  <>
    <circle cx="8" cy="8" r="2.75" />
    <path d="M8 1.5v1M8 13.5v1M1.5 8h1M13.5 8h1M3.4 3.4l.7.7M11.9 11.9l.7.7M12.6 3.4l-.7.7M4.1 11.9l-.7.7" />
  </>,
);
export const Moon = icon(<path d="M13 9.5A5.5 5.5 0 0 1 6.5 3 5.5 5.5 0 1 0 13 9.5z" />);
export const System = icon(
  <>
    <rect x="2" y="3" width="12" height="8" rx="1.5" />
    <path d="M6 13.5h4" />
  </>,
);
export const Full = icon(<path d="M6 2.5H2.5V6M10 2.5h3.5V6M6 13.5H2.5V10M10 13.5h3.5V10" />);
export const Grid = icon(
  <path d="M2.5 2.5h4.5v4.5H2.5zM9 2.5h4.5v4.5H9zM2.5 9h4.5v4.5H2.5zM9 9h4.5v4.5H9z" />,
);
export const Compare = icon(<path d="M8 2v12M3 4h3v8H3zM10 4h3v8h-3z" />);
export const Copy = icon(
  <>
    <rect x="5.5" y="5.5" width="8" height="8" rx="1.5" />
    <path d="M10.5 5.5v-2a1 1 0 0 0-1-1h-6a1 1 0 0 0-1 1v6a1 1 0 0 0 1 1h2" />
  </>,
);
export const Chain = icon(
  <path d="M6.5 9.5a2.5 2.5 0 0 0 3.6 0l2.2-2.2a2.5 2.5 0 0 0-3.6-3.6l-.9.9M9.5 6.5a2.5 2.5 0 0 0-3.6 0L3.7 8.7a2.5 2.5 0 0 0 3.6 3.6l.9-.9" />,
);
export const Download = icon(<path d="M8 2.5v7M5 7l3 3 3-3M3 13h10" />);
export const Eye = icon(
  <>
    <path d="M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8z" />
    <circle cx="8" cy="8" r="2" />
  </>,
);
export const EyeOff = icon(<path d="M1.5 6.5S4 10.5 8 10.5s6.5-4 6.5-4M4 10l-1 2M8 10.5v2.25M12 10l1 2" />);
