package main

import "strings"

// vendorNames are those of TCG's vendor ID registry that made TPM 1.2 or 2.0, by
// their letters.
var vendorNames = map[string]string{
	"AMD":  "AMD",
	"ANT":  "Ant Group",
	"ATML": "Atmel",
	"BRCM": "Broadcom",
	"CSCO": "Cisco",
	"FLYS": "FlySlice",
	"GOOG": "Google",
	"HISI": "Huawei",
	"HPE":  "HPE",
	"HPI":  "HP",
	"IBM":  "IBM (or its software TPM: swtpm, libtpms)",
	"IFX":  "Infineon",
	"INTC": "Intel",
	"LEN":  "Lenovo",
	"MSFT": "Microsoft (or its simulator)",
	"NSG":  "NSING",
	"NSM":  "National Semiconductor",
	"NTC":  "Nuvoton",
	"NTZ":  "Nationz",
	"QCOM": "Qualcomm",
	"ROCC": "Rockchip",
	"SECE": "SecEdge",
	"SMSC": "SMSC",
	"SMSN": "Samsung",
	"SNS":  "Sinosun",
	"STM":  "STMicroelectronics",
	"TXN":  "Texas Instruments",
	"VMW":  "VMware",
	"WEC":  "Winbond",
}

func vendorText(id string) string {
	if name, ok := vendorNames[strings.ToUpper(id)]; ok {
		return id + ", " + name
	}
	return id
}
